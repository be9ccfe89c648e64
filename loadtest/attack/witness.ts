/**
 * The honest clients beside an attack, in their own process. Every operation is due at a fixed time, whatever happened to the
 * ones before, and its delay counts from then: a stalled gateway shows in all operations that were due meanwhile.
 */
import { Agent, request as httpRequest } from "node:http";
import { io, type Socket } from "socket.io-client";
import { attackedNamespace, Target } from "./attack.ts";
import type { FromWitness, Sample, SampleKind, ToWitness, WitnessOrder } from "./orders.ts";

const tickMs = 5;
const reportEveryMs = 250;
const callers = 2;
const callWithinMs = 5_000;
const connectWithinMs = 8_000;
const askWithinMs = 5_000;
const healthEveryMs = 100;
const connectEveryMs = 1_000;
const channel = `${attackedNamespace}:news`;
const newsEvent = "news";

const samples: Sample[] = [];
const keptOpen = new Agent({ keepAlive: true });
/** Timeouts of missing publications, by the time at which they were due. */
const awaitedNews = new Map<number, NodeJS.Timeout>();

function now(): number {
  return performance.timeOrigin + performance.now();
}

function take(kind: SampleKind, dueAtMs: number, failed: boolean): void {
  samples.push({ kind, dueAtMs, tookMs: now() - dueAtMs, failed });
}

function report(message: FromWitness): void {
  process.send?.(message);
}

/** Calls `act` for each due time. */
function every(periodMs: number, act: (dueAtMs: number) => void): void {
  let dueAtMs = now();
  const work = (): void => {
    for (; dueAtMs <= now(); dueAtMs += periodMs) act(dueAtMs);
    setTimeout(work, Math.max(0, dueAtMs - now()));
  };
  work();
}

/** @returns the HTTP status; undefined without an answer in time */
async function ask(
  url: URL,
  options: { method?: string; headers?: Record<string, string>; body?: string; agent?: Agent | false } = {},
): Promise<number | undefined> {
  const { method = "GET", headers = {}, body, agent = false } = options;
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(askWithinMs);
    const asked = httpRequest(url, { method, headers, agent, signal }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode));
      response.once("error", () => resolve(undefined));
    });
    asked.once("error", () => resolve(undefined));
    asked.end(body);
  });
}

function newSocket(target: Target, token: string, reconnection: boolean): Socket {
  return io(target.gateway.href, { transports: ["websocket"], auth: { token }, forceNew: true, reconnection });
}

/** A client that stays connected and calls. @param follows also follows the publications */
async function connectCaller(target: Target, token: string, follows: boolean): Promise<Socket> {
  const socket = newSocket(target, token, true);
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("sync:welcome", () => {
    if (!follows) return resolve();
    socket.emit("sync:subscribe", { channel }, () => resolve());
  });
  socket.on(newsEvent, ({ dueAtMs }: { dueAtMs: number }) => {
    if (!awaitedNews.has(dueAtMs)) return;
    clearTimeout(awaitedNews.get(dueAtMs));
    awaitedNews.delete(dueAtMs);
    take("publication", dueAtMs, false);
  });
  await promise;
  return socket;
}

function call(socket: Socket, dueAtMs: number): void {
  socket.timeout(callWithinMs).emit("attack.echo", { card: 17 }, (error: unknown, ack?: { ok: boolean }) => {
    take("call", dueAtMs, Boolean(error) || ack?.ok !== true);
  });
}

function publish({ api, apiToken }: Target, dueAtMs: number): void {
  const timer = setTimeout(() => {
    awaitedNews.delete(dueAtMs);
    take("publication", dueAtMs, true);
  }, callWithinMs);
  awaitedNews.set(dueAtMs, timer);
  void ask(new URL("/v1/publish", api), {
    method: "POST",
    headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
    body: JSON.stringify({ channel, event: newsEvent, data: { dueAtMs } }),
    agent: keptOpen,
  });
}

function connectOnce(target: Target, token: string, dueAtMs: number): void {
  const socket = newSocket(target, token, false);
  const timer = setTimeout(() => end(true), connectWithinMs);
  const end = (failed: boolean): void => {
    clearTimeout(timer);
    socket.removeAllListeners();
    socket.disconnect();
    take("connect", dueAtMs, failed);
  };
  socket.once("sync:welcome", () => end(false));
  socket.once("connect_error", () => end(true));
}

function checkHealth(kind: SampleKind, url: URL, dueAtMs: number): void {
  void ask(new URL("/livez", url)).then((status) => take(kind, dueAtMs, status !== 200));
}

async function witness(order: WitnessOrder): Promise<void> {
  const target = new Target(order.target);
  const tokens = await Promise.all(
    Array.from({ length: callers + 1 }, (_, number) => target.clientToken({ sub: `honest-${number + 1}` })),
  );
  const [passing = "", ...staying] = tokens;
  const sockets = await Promise.all(staying.map((token, number) => connectCaller(target, token, number === 0)));
  let next = 0;
  every(1_000 / order.callsPerSecond, (dueAtMs) => {
    const socket = sockets[next++ % sockets.length];
    if (socket) call(socket, dueAtMs);
  });
  every(1_000 / order.publishesPerSecond, (dueAtMs) => publish(target, dueAtMs));
  every(connectEveryMs, (dueAtMs) => {
    connectOnce(target, passing, dueAtMs);
    void ask(new URL("/v1/bootstrap", target.gateway)).then((status) => take("bootstrap", dueAtMs, status !== 200));
  });
  every(healthEveryMs, (dueAtMs) => {
    checkHealth("gateway health", target.admin, dueAtMs);
    checkHealth("API health", target.api, dueAtMs);
  });
  report({ ready: true });
}

let lateMs = 0;
let lastTickAt = performance.now();
setInterval(() => {
  lateMs = Math.max(lateMs, performance.now() - lastTickAt - tickMs);
  lastTickAt = performance.now();
}, tickMs);
setInterval(() => {
  report({ samples: samples.splice(0), lateMs });
  lateMs = 0;
}, reportEveryMs);

process.on("message", ({ witness: order }: ToWitness) => void witness(order));
process.on("disconnect", () => process.exit(0));
