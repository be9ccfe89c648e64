import { readFileSync } from "node:fs";

/** Time that the main thread of a process was running, from its start; what else the machine does is not in it. */
export function mainThreadMs(pid: number): number {
  const [running = ""] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
  return Number(running) / 1e6;
}
