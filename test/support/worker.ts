import { freePort, spawnProcess, type Spawned } from "./processes.ts";

/** A process of the private API that works on the queues. Resolves once it listens; the caller ends it. */
export async function spawnWorker(
  redisUrl: string,
  relayToken: string,
  onSpawned: (worker: Spawned) => void,
  settings: Record<string, string> = {},
): Promise<Spawned> {
  const worker = spawnProcess(process.execPath, ["private-api/main.ts"], {
    env: {
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(await freePort()),
      PRIVATE_API_TOKENS: JSON.stringify([{ name: "gateway", token: relayToken, scopes: ["relay"] }]),
      REDIS_URL: redisUrl,
      ...settings,
    },
  });
  onSpawned(worker);
  await worker.printed("private API listening");
  return worker;
}
