/**
 * Clients that all come at once; a process of its own. Prints `once {…}` when each has its answer. Then those that were
 * refused come back by themselves, as stock clients do, every 0.5 to 1.5 s and whatever they were told: `again {…}`.
 *
 *   STORM_URL STORM_TOKEN STORM_CLIENTS STORM_SECONDS
 */
import { connect, type Socket } from "node:net";
import { percentile } from "../checks/percentile.ts";
import { ServerFrames, textFrame, upgradeRequest } from "../../test/support/raw-websocket.ts";

/** A dial and its answer take no longer; past it the client counts as left without one. */
const answerWithinMs = 20_000;

export interface Tally {
  welcomed: number;
  atCapacity: number;
  rateLimited: number;
  otherRefusals: number;
  /** 503 before the connection was opened. */
  turnedAway: number;
  /** Refused, or turned away, without a time. */
  untold: number;
  /** Broke, or stayed silent. */
  unanswered: number;
  /** Of sessions that were welcome. */
  lost: number;
  /** When the 1 % soonest and the 1 % last of those who were told come back. */
  toldMs: { p1: number; p99: number };
}

const url = new URL(process.env["STORM_URL"] ?? "");
const connectPacket = textFrame(`40${JSON.stringify({ token: process.env["STORM_TOKEN"] })}`);
const clients = Number(process.env["STORM_CLIENTS"]);
const seconds = Number(process.env["STORM_SECONDS"]);
let tally = empty();
let toldMs: number[] = [];

function empty(): Tally {
  return {
    welcomed: 0,
    atCapacity: 0,
    rateLimited: 0,
    otherRefusals: 0,
    turnedAway: 0,
    untold: 0,
    unanswered: 0,
    lost: 0,
    toldMs: { p1: 0, p99: 0 },
  };
}

/** One try. @returns whether it is in. */
async function come(): Promise<boolean> {
  const socket = connect({ port: Number(url.port), host: url.hostname, noDelay: true });
  socket.write(upgradeRequest(url));
  return new Promise((resolve) => {
    let isIn = false;
    let settled = false;
    const settle = (welcome: boolean): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      if (!welcome) socket.destroy();
      resolve(welcome);
    };
    const unanswered = (): void => {
      if (isIn) tally.lost++;
      else if (!settled) tally.unanswered++;
      settle(false);
    };
    const timer = setTimeout(unanswered, answerWithinMs);
    socket.on("error", unanswered);
    socket.on("close", unanswered);
    const frames = new ServerFrames();
    let head = "";
    let upgraded = false;
    socket.on("data", (chunk: Buffer) => {
      let rest = chunk;
      if (!upgraded) {
        head += chunk.toString("latin1");
        const end = head.indexOf("\r\n\r\n");
        if (end === -1) return;
        if (!head.startsWith("HTTP/1.1 101")) {
          turnedAway(head);
          return settle(false);
        }
        upgraded = true;
        rest = chunk.subarray(chunk.length - (head.length - end - 4));
      }
      for (const text of frames.push(rest)) {
        if (text === "2") socket.write(textFrame("3"));
        else if (text.startsWith("0{")) socket.write(connectPacket);
        else if (text.startsWith("44")) {
          refused(text);
          settle(false);
        } else if (text.startsWith('42["sync:welcome"')) {
          tally.welcomed++;
          isIn = true;
          keep(socket);
          settle(true);
        }
      }
    });
  });
}

const kept = new Set<Socket>();
function keep(socket: Socket): void {
  kept.add(socket);
}

function turnedAway(head: string): void {
  tally.turnedAway++;
  const retryAfter = /\r\nRetry-After: (\d+)/i.exec(head)?.[1];
  if (head.startsWith("HTTP/1.1 503") && retryAfter !== undefined) toldMs.push(Number(retryAfter) * 1_000);
  else tally.untold++;
}

function refused(text: string): void {
  const { data } = JSON.parse(text.slice(2)) as { data: { code: string; retryAfterMs?: number } };
  if (data.code === "at_capacity") tally.atCapacity++;
  else if (data.code === "rate_limited") tally.rateLimited++;
  else tally.otherRefusals++;
  if (data.retryAfterMs === undefined) tally.untold++;
  else toldMs.push(data.retryAfterMs);
}

/** The tally so far; another begins. */
function report(title: string): void {
  tally.toldMs = { p1: percentile(toldMs, 0.01), p99: percentile(toldMs, 0.99) };
  process.stdout.write(`${title} ${JSON.stringify(tally)}\n`);
  tally = empty();
  toldMs = [];
}

const outside = (await Promise.all(Array.from({ length: clients }, come))).filter((isIn) => !isIn).length;
report("once");

const until = performance.now() + seconds * 1_000;
await Promise.all(
  Array.from({ length: outside }, async () => {
    for (;;) {
      const waitMs = 500 + Math.random() * 1_000;
      if (performance.now() + waitMs > until) return;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (await come()) return;
    }
  }),
);
report("again");
