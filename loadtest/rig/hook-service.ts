/**
 * A service that gets webhooks, or an endpoint that gets changes, and checks their order per path and key. Its own process keeps its CPU out of
 * the figures. Under `/slow/` it answers after SLOW_MS, under `/silent/` never, under `/down/` with 503 while its parent says so. Requests to
 * `/slow/` and `/down/` have counters of their own; those to `/bare/` are not counted.
 */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Histogram } from "../checks/histogram.ts";
import { type HookBody, nowMs } from "../providers/load-messages.ts";
import { type ServiceFigures, type ServiceMessage, type ServiceOrder, downGroup, slowGroup } from "./hook-sink.ts";

const progressEveryMs = 20;
const lastByKey = new Map<string, number>();
let waits = new Map<string, Histogram>();
let served = new Map<string, Histogram>();
const busyKeys = new Map<string, number>();
let [received, repeats, disordered] = [0, 0, 0];
let connections = 0;
let isDown = false;
let afterOutage = 0;
let mostAtOnce: Record<string, number> = {};
let delayMs = 0;
const slowMs = Number(process.env["SLOW_MS"] ?? 0);

function take(path: string, { group: name, key: ownKey, n, at }: HookBody, response: ServerResponse): void {
  if (path.startsWith("/silent/")) return;
  if (path.startsWith("/bare/")) {
    response.writeHead(204).end();
    return;
  }
  const wasDown = path.startsWith("/down/");
  if (wasDown && isDown) {
    response.writeHead(503).end();
    return;
  }
  if (wasDown) afterOutage++;
  else received++;
  const isSlow = path.startsWith("/slow/");
  const group = isSlow ? slowGroup(name) : wasDown ? downGroup(name) : name;
  const key = `${path} ${ownKey}`;
  const last = lastByKey.get(key) ?? 0;
  if (n <= last) repeats++;
  else if (n > last + 1) disordered++;
  lastByKey.set(key, Math.max(last, n));
  histogramOf(waits, group).add(nowMs() - at);
  const atOnce = (busyKeys.get(group) ?? 0) + 1;
  busyKeys.set(group, atOnce);
  mostAtOnce[group] = Math.max(mostAtOnce[group] ?? 0, atOnce);
  const answer = (): void => {
    busyKeys.set(group, (busyKeys.get(group) ?? 1) - 1);
    histogramOf(served, group).add(nowMs() - at);
    response.writeHead(204).end();
  };
  const waitMs = isSlow ? slowMs : delayMs;
  if (waitMs === 0) answer();
  else setTimeout(answer, waitMs);
}

function histogramOf(histograms: Map<string, Histogram>, group: string): Histogram {
  const histogram = histograms.get(group) ?? new Histogram();
  histograms.set(group, histogram);
  return histogram;
}

function figures(): ServiceFigures {
  const byGroup = (histograms: Map<string, Histogram>): ServiceFigures["waitMs"] =>
    Object.fromEntries([...histograms].map(([group, histogram]) => [group, histogram.toJSON()]));
  return { received, repeats, disordered, waitMs: byGroup(waits), servedMs: byGroup(served), mostAtOnce, connections };
}

function newServer(): Server {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(chunks).toString("latin1")) as HookBody | { data: HookBody };
      take(request.url ?? "", "data" in body ? body.data : body, response);
    });
  });
  server.on("connection", (socket) => {
    connections++;
    socket.once("close", () => connections--);
  });
  return server.listen(0, "127.0.0.1");
}

function tell(message: ServiceMessage): void {
  // Its parent may be gone before it hears so: then `disconnect` ends this process.
  process.send?.(message, undefined, undefined, () => undefined);
}

process.on("message", (order: ServiceOrder) => {
  if (order.order === "delay") delayMs = order.ms;
  else if (order.order === "down") ({ isDown } = order);
  else {
    tell({ kind: "figures", figures: figures() });
    waits = new Map();
    served = new Map();
    mostAtOnce = {};
  }
});
process.once("disconnect", () => process.exit());
const servers = Array.from({ length: Number(process.env["ORIGINS"] ?? 1) }, newServer);
await Promise.all(servers.map(async (server) => once(server, "listening")));
tell({ kind: "listening", ports: servers.map((server) => (server.address() as AddressInfo).port) });
setInterval(() => tell({ kind: "progress", received, afterOutage }), progressEveryMs);
