/**
 * Asks a node's admin port for its health every 20 ms; a process of its own. Prints a line of JSON for each second: the
 * number of answers and the slowest.
 *
 *   PROBE_URL
 */
import { request, Agent } from "node:http";

const everyMs = 20;
const url = process.env["PROBE_URL"] ?? "";
const agent = new Agent({ keepAlive: true });

export interface ProbedSecond {
  /** Unix ms, the end of the second. */
  at: number;
  checks: number;
  failed: number;
  slowestMs: number;
  /** Answers slower than 100 ms. */
  slow: number;
}

const noChecks: Omit<ProbedSecond, "at"> = { checks: 0, failed: 0, slowestMs: 0, slow: 0 };
let second = { ...noChecks };

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
  second = { ...noChecks };
}, 1_000);
