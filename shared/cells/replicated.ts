import type { RedisConnections } from "../redis/connections.ts";

/** A replica that is connected confirms within a round trip. */
const waitMs = 1_000;

/** Of a server now. */
export interface Replication {
  /** Another one after each failover and restart. */
  readonly id: string;
  readonly replicas: number;
}

export async function replicationOf(cell: RedisConnections): Promise<Replication> {
  const text = await cell.run<string>("info", "replication");
  const field = (name: string): string => new RegExp(`^${name}:(\\w+)`, "m").exec(text)?.[1] ?? "";
  return { id: field("master_replid"), replicas: Number(field("connected_slaves")) };
}

/** Resolves once a replica, where the server has any, has everything that was written before: a failover keeps it. @throws where none does in time */
export async function replicated(cell: RedisConnections): Promise<void> {
  const { replicas } = await replicationOf(cell);
  if (replicas === 0) return;
  if ((await cell.run<number>("wait", 1, waitMs)) > 0) return;
  throw new Error("no replica of the cell has confirmed the latest writes in time");
}
