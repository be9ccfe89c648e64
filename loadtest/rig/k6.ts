/** k6, the load generator: where it is, and how it is run. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type Spawned, spawnProcess } from "../../test/support/processes.ts";

/** @throws where there is none and none can be built; the script has said how to get it. */
export function findK6(): string {
  return execFileSync(join(import.meta.dirname, "../install-k6.sh"), { stdio: ["ignore", "pipe", "inherit"] })
    .toString()
    .trim();
}

/** The caller ends it. @param script in this folder. */
export function startK6(path: string, script: string, env: Record<string, string>): Spawned {
  // An empty address: k6's own HTTP API stays off.
  const flags = ["--quiet", "--no-color", "--no-usage-report", "--address", ""];
  return spawnProcess(path, ["run", ...flags, join(import.meta.dirname, "../k6", script)], { env });
}
