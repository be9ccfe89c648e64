/** The private API as a process of its own. */
import { privateApiTokens } from "./fleet.ts";
import { freePort, spawnProcess, type Spawned } from "./processes.ts";

export interface PrivateApiProcess {
  readonly process: Spawned;
  readonly url: string;
}

/**
 * Resolves once it listens. The caller ends it.
 * @param settings added to a free port and the tokens of the tests
 * @param spawned gets the process before it listens
 */
export async function spawnPrivateApi(
  settings: Readonly<Record<string, string>>,
  spawned: Spawned[] = [],
): Promise<PrivateApiProcess> {
  const port = settings["PRIVATE_API_PORT"] ?? String(await freePort());
  const process = spawnProcess(globalThis.process.execPath, ["private-api/main.ts"], {
    env: {
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_TOKENS: privateApiTokens,
      ...settings,
      PRIVATE_API_PORT: port,
    },
  });
  spawned.push(process);
  await process.printed("private API listening");
  return { process, url: `http://127.0.0.1:${port}` };
}
