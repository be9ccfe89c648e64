/** Runs echo-service.ts in its own process, which keeps its CPU out of the figures. */
import { join } from "node:path";
import { spawnProcess } from "../../test/support/processes.ts";

const root = join(import.meta.dirname, "../..");

export interface Echo {
  readonly url: string;
  stop(): void;
}

/** The caller stops it. @param delayMs before each answer */
export async function startEcho(delayMs = 0): Promise<Echo> {
  const spawned = spawnProcess(process.execPath, ["loadtest/rig/echo-service.ts"], {
    cwd: root,
    env: { ECHO_DELAY_MS: String(delayMs) },
  });
  const port = /\d+$/.exec(await spawned.printed("listening on"))?.[0];
  return { url: `http://127.0.0.1:${port}`, stop: () => spawned.kill("SIGKILL") };
}
