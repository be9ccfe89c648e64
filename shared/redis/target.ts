/** Which Redis a deployment uses, as its settings describe it. */
import type { SettingValues } from "../runtime/settings.ts";
import { parseNamedPrimary, parseServerUrl, type ServerAddress } from "./address.ts";
import { defaultPrefix, nameRoot } from "./name-root.ts";
import { parseCells, type redisSettings, type RedisTls, readTls } from "./settings.ts";

/** The name of the cell where REDIS_CELLS names none. */
export const onlyCell = "main";

/** Addresses as the settings write them. */
export type RedisTarget = (
  | { kind: "standalone"; url: string; readUrl?: string }
  | { kind: "sentinel"; sentinels: readonly string[]; master: string; readUrl?: string }
  | { kind: "cluster"; nodes: readonly string[] }
) & {
  /** Begins the names of all keys and topics. Two deployments with different prefixes can share a Redis. */
  prefix?: string;
  tls?: RedisTls;
};

export type SingleTarget = Exclude<RedisTarget, { kind: "cluster" }>;
export type Login = Omit<ServerAddress, "host" | "port">;

/** Undefined where no Redis is configured. @param settings valid ones (`redisFindings`). */
export function redisTarget(settings: SettingValues<typeof redisSettings>): RedisTarget | undefined {
  const { REDIS_URL, REDIS_CLUSTER, REDIS_SENTINELS, REDIS_SENTINEL_MASTER } = settings;
  const { REDIS_PREFIX: prefix, REDIS_READ_URL: readUrl } = settings;
  const all = { prefix, tls: readTls(settings) };
  if (REDIS_CLUSTER) return { kind: "cluster", nodes: REDIS_CLUSTER, ...all };
  const read = readUrl === undefined ? {} : { readUrl };
  if (REDIS_SENTINELS && REDIS_SENTINEL_MASTER) {
    return { kind: "sentinel", sentinels: REDIS_SENTINELS, master: REDIS_SENTINEL_MASTER, ...all, ...read };
  }
  return REDIS_URL === undefined ? undefined : { kind: "standalone", url: REDIS_URL, ...all, ...read };
}

/** By the name of the cell; the first one is also the fleet's. */
export type CellTargets = ReadonlyMap<string, RedisTarget>;

/** Undefined where no Redis is configured. @param settings valid ones (`redisFindings`). */
export function cellTargets(settings: SettingValues<typeof redisSettings>): CellTargets | undefined {
  const { REDIS_CELLS, REDIS_PREFIX: prefix } = settings;
  if (REDIS_CELLS) {
    const tls = readTls(settings);
    return new Map([...parseCells(REDIS_CELLS)].map(([name, address]) => [name, { ...address, prefix, tls }]));
  }
  const target = redisTarget(settings);
  return target && new Map([[onlyCell, target]]);
}

/** The text that begins the names of all keys and topics. */
export function rootOf(target: RedisTarget): string {
  return nameRoot(target.prefix ?? defaultPrefix, target.kind === "cluster" ? 0 : loginOf(target).database);
}

/** How to log in at the primary. */
export function loginOf(target: SingleTarget): Login {
  return target.kind === "sentinel" ? parseNamedPrimary(target.master) : parseServerUrl(target.url);
}
