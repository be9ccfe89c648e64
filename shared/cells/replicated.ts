import type { RedisConnections } from "../redis/connections.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";

/** A replica that is connected confirms within a round trip. */
const waitMs = 1_000;

/**
 * Resolves once a replica, where a server has any, has everything that was written before: a failover keeps it. In a cluster, for each primary.
 * @throws TidegateError `broker_unavailable` where none does in time
 */
export async function replicated(cell: RedisConnections): Promise<void> {
  await Promise.all(cell.primaries.map(async (primary) => replicatedAt(cell, primary)));
}

async function replicatedAt(cell: RedisConnections, primary: string): Promise<void> {
  const replication = await cell.runAt<string>(primary, "info", "replication");
  const [, replicas = "0"] = /^connected_slaves:(\d+)/m.exec(replication) ?? [];
  if (replicas === "0") return;
  if ((await cell.runAt<number>(primary, "wait", 1, waitMs)) > 0) return;
  throw brokerUnavailable("no replica of the cell has confirmed the latest writes in time");
}
