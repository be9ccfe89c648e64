/** Finds and runs k6, the load generator. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type Spawned, spawnProcess } from "../../test/support/processes.ts";

/** @returns the path of k6. Throws where k6 is missing and cannot be built; the script then prints how to get it. */
export function findK6(): string {
  return execFileSync(join(import.meta.dirname, "../install-k6.sh"), { stdio: ["ignore", "pipe", "inherit"] })
    .toString()
    .trim();
}

/** The caller stops the process. @param script a file of k6/ */
export function startK6(path: string, script: string, env: Record<string, string>): Spawned {
  // An empty address turns k6's own HTTP API off.
  const flags = ["--quiet", "--no-color", "--no-usage-report", "--address", ""];
  return spawnProcess(path, ["run", ...flags, join(import.meta.dirname, "../k6", script)], { env });
}
