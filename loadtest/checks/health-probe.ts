/**
 * Asks a node's admin port how it is, every 20 ms; a process of its own. Prints a line of JSON for each second:
 * how long the slowest answer took, and how many there were.
 *
 *   PROBE_URL
 */
import { request, Agent } from "node:http";

const everyMs = 20;
const url = process.env["PROBE_URL"] ?? "";
const agent = new Agent({ keepAlive: true });

export interface ProbedSecond {
  /** Unix ms, of its end. */
  at: number;
  checks: number;
  failed: number;
  slowestMs: number;
  /** Took longer than 100 ms. */
  slow: number;
}

let second: Omit<ProbedSecond, "at"> = { checks: 0, failed: 0, slowestMs: 0, slow: 0 };

function check(path: string): void {
  const startedAt = performance.now();
  const answered = (ok: boolean): void => {
    const ms = performance.now() - startedAt;
    second.checks++;
    if (!ok) second.failed++;
    if (ms > 100) second.slow++;
    second.slowestMs = Math.max(second.slowestMs, ms);
  };
  const asked = request(`${url}${path}`, { agent, timeout: 5_000 }, (response) => {
    response.resume();
    response.once("end", () => answered(response.statusCode === 200));
  });
  asked.once("error", () => answered(false));
  asked.end();
}

setInterval(() => {
  check("/livez");
  check("/readyz");
}, everyMs);
setInterval(() => {
  process.stdout.write(`${JSON.stringify({ at: Date.now(), ...second })}\n`);
  second = { checks: 0, failed: 0, slowestMs: 0, slow: 0 };
}, 1_000);
