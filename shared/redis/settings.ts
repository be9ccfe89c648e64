import { readFileSync } from "node:fs";
import { Type } from "typebox";
import { about, list, matching, optional, text } from "../runtime/setting-kinds.ts";
import type { Setting, SettingValues } from "../runtime/settings.ts";
import { parseClusterNodes, parseNamedPrimary, parseSentinels, parseServerUrl } from "./address.ts";
import { type CellAddress, parseCellAddress } from "./cell-address.ts";
import { cellNamePattern } from "./cell-map.ts";
import { defaultPrefix, prefixPattern } from "./name-root.ts";

/** Addresses of Redis. Without any, one process uses the in-memory stores. */
export const redisSettings = {
  REDIS_URL: about(
    "A standalone Redis: `redis[s]://user:password@host:port/database`; only the host is required. Programs that run as separate processes need this, `REDIS_SENTINELS`, `REDIS_CLUSTER` or `REDIS_CELLS`.",
    optional(address(parseServerUrl)),
  ),
  REDIS_CELLS: about(
    "Several Redis, each with a part of the slots: `a=redis://…,b=redis://…`, instead of the settings of one. The first one also holds what belongs to the whole fleet. Names are 1 to 32 of a-z 0-9 _ -. All use the same database number. One with sentinels: `c=redis[s]+sentinel://user:password@host:port;host:port/name/database`, with all sentinels; the login is that of the servers. A Redis Cluster: `d=redis[s]+cluster://user:password@host:port;host:port`, some of its servers.",
    optional(checked(list(Type.String()), parseCells)),
  ),
  REDIS_READ_URL: about(
    "A replica that takes subscriptions and history reads off the primary (SPEC, READ-1). Not with `REDIS_CLUSTER` or `REDIS_CELLS`.",
    optional(address(parseServerUrl)),
  ),
  REDIS_SENTINELS: about(
    "All sentinels: `host:port,…`, IPv6 in brackets; unlisted ones are not discovered. With a login: `redis[s]://user:password@host:port,host:port,…`.",
    optional(checked(list(Type.String()), parseSentinels)),
  ),
  REDIS_SENTINEL_MASTER: about(
    "The name under which the sentinels know the primary. With a login: `redis[s]://user:password@name/database`.",
    optional(address(parseNamedPrimary)),
  ),
  REDIS_CLUSTER: about(
    "Some servers of a cluster, written like `REDIS_SENTINELS`; the others are discovered.",
    optional(checked(list(Type.String()), parseClusterNodes)),
  ),
  REDIS_TLS_CA: about(
    "PEM file with the authorities that sign the servers' certificates. `NODE_EXTRA_CA_CERTS` adds some instead.",
    optional(checked(text(), readPem)),
    "the authorities that Node.js trusts",
  ),
  REDIS_TLS_CERT: about("PEM file with the client certificate for TLS.", optional(checked(text(), readPem))),
  REDIS_TLS_KEY: about("PEM file with the key of `REDIS_TLS_CERT`.", optional(checked(text(), readPem))),
  REDIS_PREFIX: about(
    "Beginning of all names of keys and topics. Two deployments on one Redis differ in it, or in the database.",
    matching(prefixPattern, "must be 1 to 64 of A-Z a-z 0-9 _ . : / -", { fallback: defaultPrefix }),
  ),
};

/**
 * The address of each cell by its name, the fleet's first.
 * @throws an error that says what to change and quotes nothing.
 */
export function parseCells(entries: readonly string[]): ReadonlyMap<string, CellAddress> {
  const cells = new Map<string, CellAddress>();
  const databases = new Set<number>();
  const servers = new Set<string>();
  for (const [index, entry] of entries.entries()) {
    const what = `entry ${index + 1}`;
    const at = entry.indexOf("=");
    const name = entry.slice(0, Math.max(0, at)).trim();
    if (!cellNamePattern.test(name)) throw new Error(`${what}: must be name=redis://…, the name of a-z 0-9 _ -`);
    if (cells.has(name)) throw new Error(`${what}: another entry has its name`);
    try {
      const { address, database, server } = parseCellAddress(entry.slice(at + 1).trim());
      databases.add(database);
      if (servers.has(server)) throw new Error("another cell has this server");
      servers.add(server);
      cells.set(name, address);
    } catch (error) {
      throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
    }
  }
  if (databases.size > 1) throw new Error("all cells must use the same database number");
  return cells;
}

/** For connections with TLS, in PEM form: further trusted authorities, and the client's certificate. */
export interface RedisTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A text with any characters: the check names those that it refuses. */
function address(check: (given: string) => unknown): Setting<string> {
  return checked({ ...text(), parse: (given) => given }, check);
}

/** @param check throws an error that says what to change and quotes nothing: the text may contain a password. */
function checked<Value>(setting: Setting<Value>, check: (value: Value) => unknown): Setting<Value> {
  return {
    ...setting,
    parse: (given) => {
      const value = setting.parse(given) as Value;
      check(value);
      return value;
    },
  };
}

function readPem(file: string): string {
  try {
    const pem = readFileSync(file, "utf8");
    if (pem.includes("-----BEGIN ")) return pem;
  } catch (error) {
    throw new Error(`the file cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
  throw new Error("the file contains no PEM");
}

export function readTls(settings: SettingValues<typeof redisSettings>): RedisTls {
  const { REDIS_TLS_CA, REDIS_TLS_CERT, REDIS_TLS_KEY } = settings;
  return {
    ...(REDIS_TLS_CA !== undefined && { ca: readPem(REDIS_TLS_CA) }),
    ...(REDIS_TLS_CERT !== undefined && { cert: readPem(REDIS_TLS_CERT) }),
    ...(REDIS_TLS_KEY !== undefined && { key: readPem(REDIS_TLS_KEY) }),
  };
}

/** @param required true for a separate program, which cannot share memory with the other one. */
export function redisFindings(settings: SettingValues<typeof redisSettings>, required: boolean): string[] {
  const findings: string[] = [];
  if ((settings.REDIS_SENTINELS === undefined) !== (settings.REDIS_SENTINEL_MASTER === undefined)) {
    findings.push("REDIS_SENTINELS, REDIS_SENTINEL_MASTER: set both or neither");
  }
  if ((settings.REDIS_TLS_CERT === undefined) !== (settings.REDIS_TLS_KEY === undefined)) {
    findings.push("REDIS_TLS_CERT, REDIS_TLS_KEY: set both or neither");
  }
  const ways = [settings.REDIS_URL, settings.REDIS_SENTINELS, settings.REDIS_CLUSTER, settings.REDIS_CELLS];
  if (ways.filter((way) => way !== undefined).length > 1) {
    findings.push("REDIS_URL, REDIS_SENTINELS, REDIS_CLUSTER, REDIS_CELLS: set only one of them");
  }
  if (settings.REDIS_READ_URL && (settings.REDIS_CLUSTER || settings.REDIS_CELLS)) {
    findings.push("REDIS_READ_URL: is for REDIS_URL or REDIS_SENTINELS, not for REDIS_CLUSTER or REDIS_CELLS");
  }
  const deployment = settings.REDIS_URL ?? settings.REDIS_SENTINEL_MASTER;
  if (settings.REDIS_READ_URL && databaseIn(settings.REDIS_READ_URL) !== databaseIn(deployment)) {
    findings.push("REDIS_READ_URL: must name the database of the deployment");
  }
  if (required && ways.every((way) => way === undefined)) {
    findings.push("REDIS_URL: is required for a separate program (`npm start` runs everything without Redis)");
  }
  return findings;
}

/** The database in the path of the URL; "0" for a name alone. */
function databaseIn(address: string | undefined): string {
  return URL.parse(address ?? "")?.pathname.slice(1) || "0";
}
