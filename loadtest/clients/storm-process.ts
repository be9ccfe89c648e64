/**
 * A process whose clients all connect at once. Prints `once {…}` when each has an answer. The refused ones then reconnect
 * every 0.5 to 1.5 s, whatever time the refusal named, and it prints `again {…}`.
 *
 *   STORM_URL STORM_TOKEN STORM_CLIENTS STORM_SECONDS
 */
import { setTimeout as pause } from "node:timers/promises";
import { RawClient, RefusedError } from "../../test/support/raw-client.ts";
import { NotOpenedError } from "../../test/support/raw-websocket.ts";
import { percentile } from "../checks/percentile.ts";

/** A client without an answer after this time counts as unanswered. */
const answerWithinMs = 20_000;

export interface StormTally {
  welcomed: number;
  atCapacity: number;
  rateLimited: number;
  otherRefusals: number;
  /** Answered with an HTTP error before the connection opened. */
  unavailable: number;
  /** Refusals and HTTP errors that named no time to retry. */
  withoutTime: number;
  /** The connection broke, or nothing came in time. */
  unanswered: number;
  /** Sessions that ended after their welcome. */
  lost: number;
  /** Times to retry that refusals named: the 1st and the 99th percentile. */
  retryAfterMs: { p1: number; p99: number };
}

const url = new URL(process.env["STORM_URL"] ?? "");
const token = process.env["STORM_TOKEN"];
const clients = Number(process.env["STORM_CLIENTS"]);
const seconds = Number(process.env["STORM_SECONDS"]);
let tally = emptyTally();
let retryAfterMs: number[] = [];

function emptyTally(): StormTally {
  return {
    ...{ welcomed: 0, atCapacity: 0, rateLimited: 0, otherRefusals: 0, unavailable: 0 },
    ...{ withoutTime: 0, unanswered: 0, lost: 0, retryAfterMs: { p1: 0, p99: 0 } },
  };
}

/** Connects once. @returns whether the client is welcome; its session then stays open. */
async function connectOnce(): Promise<boolean> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), answerWithinMs);
  try {
    const client = await RawClient.connect(url, token, {}, { signal: timeout.signal });
    tally.welcomed++;
    void client.closed.then(() => tally.lost++);
    return true;
  } catch (error) {
    if (error instanceof RefusedError) countRefusal(error);
    else if (error instanceof NotOpenedError && error.received !== "") countHttpError(error.received);
    else tally.unanswered++;
    return false;
  } finally {
    clearTimeout(timer);
  }
}

function countHttpError(head: string): void {
  tally.unavailable++;
  const retryAfter = /\r\nRetry-After: (\d+)/i.exec(head)?.[1];
  if (head.startsWith("HTTP/1.1 503") && retryAfter !== undefined) retryAfterMs.push(Number(retryAfter) * 1_000);
  else tally.withoutTime++;
}

function countRefusal({ refusal }: RefusedError): void {
  if (refusal.code === "at_capacity") tally.atCapacity++;
  else if (refusal.code === "rate_limited") tally.rateLimited++;
  else tally.otherRefusals++;
  if (refusal.retryAfterMs === undefined) tally.withoutTime++;
  else retryAfterMs.push(refusal.retryAfterMs);
}

/** Prints the tally and starts a new one. */
function report(title: string): void {
  tally.retryAfterMs = { p1: percentile(retryAfterMs, 0.01), p99: percentile(retryAfterMs, 0.99) };
  process.stdout.write(`${title} ${JSON.stringify(tally)}\n`);
  tally = emptyTally();
  retryAfterMs = [];
}

const refused = (await Promise.all(Array.from({ length: clients }, connectOnce))).filter((welcome) => !welcome).length;
report("once");

const until = performance.now() + seconds * 1_000;
await Promise.all(
  Array.from({ length: refused }, async () => {
    for (;;) {
      const waitMs = 500 + Math.random() * 1_000;
      if (performance.now() + waitMs > until) return;
      await pause(waitMs);
      if (await connectOnce()) return;
    }
  }),
);
report("again");
