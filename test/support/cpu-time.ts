import { readFileSync } from "node:fs";

/** Time that the main thread of a process was running, from its start; what else the machine does is not in it. */
export function mainThreadMs(pid: number): number {
  const [running = ""] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
  return Number(running) / 1e6;
}

/** What the work of {@link machineSlowness} takes where the bounds of the tests were chosen. */
const referenceMs = 50;

/** @returns how many times as long as there this machine takes for the same work, at least 1 */
export function machineSlowness(): number {
  const text = JSON.stringify(Object.fromEntries(Array.from({ length: 140_000 }, (_, n) => [n.toString(36), 0])));
  const took = Array.from({ length: 5 }, () => {
    const before = process.threadCpuUsage();
    JSON.parse(text);
    return process.threadCpuUsage(before).user / 1_000;
  });
  return Math.max(1, Math.min(...took) / referenceMs);
}
