/** Operations on an open Redis client: route a key, reconnect, cut a connection. */
import { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { Cluster, Redis } from "ioredis";
import { resetSocket } from "../http/reset-socket.ts";
import { withDeadline } from "../runtime/timing.ts";
import { addressText } from "./address.ts";
import { crc16 } from "./slots.ts";

export type RedisClient = Redis | Cluster;

export type Argument = string | number | Buffer;

/** About: characters of text count as bytes. */
export function bytesOf(values: readonly Argument[]): number {
  return values.reduce<number>((sum, value) => sum + (typeof value === "number" ? 8 : value.length), 0);
}

const clusterSlots = 16_384;

/** Waits for the first connection, at most `waitMs`; the client keeps trying afterwards. */
export async function connect(client: RedisClient, waitMs: number): Promise<void> {
  const first = new Promise<void>((resolve) => client.once("ready", () => resolve()));
  // The error event reports a failed attempt, and the client retries it.
  client.connect().catch(() => undefined);
  await withDeadline(first, waitMs, () => undefined);
}

/** Sends a command, or a defined script, by its name. */
export async function send(client: RedisClient, name: string, keysAndArguments: readonly Argument[]): Promise<unknown> {
  const commands = client as unknown as Record<string, (...keysAndArguments: readonly Argument[]) => Promise<unknown>>;
  const command = commands[name];
  if (!command) throw new Error(`no such Redis command: ${name}`);
  return command.apply(client, [...keysAndArguments]);
}

/** Reconnects at once, whatever the connection is busy with or waits for. */
export function reconnectNow(client: RedisClient): void {
  if (client instanceof Cluster || client.status === "wait" || client.status === "end") return;
  // As in connect.
  const reconnect = (): void => void client.connect().catch(() => undefined);
  if (client.status === "reconnecting") reconnect();
  else {
    client.once("reconnecting", reconnect);
    cutOff(client, "");
  }
}

/** The primary that owns a key or topic: `host:port` in a cluster; `""` without a cluster, or while none is known. */
export function primaryOf(client: RedisClient, key: string): string {
  if (client instanceof Redis) return "";
  return client.slots[crc16(hashTag(key)) % clusterSlots]?.[0] ?? "";
}

/** All of them, as {@link primaryOf} names them. */
export function primariesOf(client: RedisClient): readonly string[] {
  if (client instanceof Redis) return [""];
  return [...new Set(client.slots.flatMap(([primary]) => primary ?? []))];
}

/** The part in braces, which decides where a key or topic lives; without braces the whole name. */
export function hashTag(key: string): string {
  return /\{([^}]+)\}/.exec(key)?.[1] ?? key;
}

/** The command was sent and Redis did not answer in time. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Command timed out";
}

/** Thrown where code is wrong. Redis, its client and the checks beside it fail with other errors. */
export function isBug(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
}

/** A cluster client wraps the error that keeps it from its servers. */
export function rootError(error: Error & { lastNodeError?: unknown }): Error {
  return error.lastNodeError instanceof Error ? error.lastNodeError : error;
}

/** Reads the slot map of the cluster again, e.g. after a redirection. */
export function refreshSlots(client: RedisClient): void {
  if (client instanceof Cluster && client.status === "ready") client.refreshSlotsCache();
}

/** Cuts an unresponsive connection and drops what its socket still buffers; the client opens another one. */
export function cutOff(client: RedisClient, primary: string): void {
  // Undefined until the client first connects, whatever its type says.
  const stream: Redis["stream"] | undefined = clusterNode(client, primary)?.stream;
  if (stream instanceof Socket && !(stream instanceof TLSSocket)) resetSocket(stream);
  else stream?.destroy();
  refreshSlots(client);
}

/** The connection to one primary of a cluster; without a cluster the client itself. */
export function clusterNode(client: RedisClient, primary: string): Redis | undefined {
  if (client instanceof Redis) return client;
  return client.nodes("all").find(({ options: { host = "", port = 0 } }) => addressText({ host, port }) === primary);
}
