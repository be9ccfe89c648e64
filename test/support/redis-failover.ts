/** What loses writes at a failover: replicas that lag behind when their primary dies. */
import { Redis } from "ioredis";
import type { RedisServer } from "./redis.ts";

/** A question to one server; rejects where it does not answer. */
export async function asked<T>(
  server: Pick<RedisServer, "url" | "tls">,
  ask: (client: Redis) => Promise<T>,
): Promise<T> {
  const { url, tls } = server;
  const client = new Redis(url, { protocol: 2, commandTimeout: 5_000, maxRetriesPerRequest: 1, ...(tls && { tls }) });
  // The question itself fails too.
  client.on("error", () => undefined);
  try {
    return await ask(client);
  } finally {
    client.disconnect();
  }
}

/**
 * From now on the replicas get nothing any more: frozen, and their links cut, so that nothing waits for them in a socket.
 * Short of the time after which they count as down.
 */
export async function freezeReplicas(primary: RedisServer, replicas: readonly RedisServer[]): Promise<void> {
  for (const replica of replicas) replica.signal("SIGSTOP");
  await asked(primary, (client) => client.call("CLIENT", "KILL", "TYPE", "replica"));
}

/** The primary dies with what it had not copied; the replicas wake up, and one of them is going to be promoted. */
export async function dieAhead(primary: RedisServer, replicas: readonly RedisServer[]): Promise<void> {
  await primary.kill();
  for (const replica of replicas) replica.signal("SIGCONT");
}
