/** Checks the Redis settings against the servers, once, before a program starts. */
import type { Redis } from "ioredis";
import { SettingsError } from "../runtime/settings.ts";
import {
  addressText,
  parseClusterNodes,
  parseNamedPrimary,
  parseSentinels,
  parseServerUrl,
  type ServerAddress,
} from "./address.ts";
import { send } from "./client.ts";
import { refusalOf } from "./refusals.ts";
import { script } from "./scripts.ts";
import { openForCheck } from "./servers.ts";
import type { RedisTls } from "./settings.ts";
import { type CellTargets, type RedisTarget, rootOf } from "./target.ts";

/** The first version with flags of scripts and sharded topics. */
const minMajorVersion = 7;

const checkRights = script(new URL("check-rights.lua", import.meta.url), 1);

/** Commands that programs and scripts run on a read replica. */
export const readingCommands = [
  ...["info", "eval", "evalsha", "ssubscribe", "sunsubscribe"],
  ...["hmget", "ttl", "pttl", "xrange", "xrevrange"],
] as const;
/** Commands that programs and scripts run on a primary. A test compares the list with the code. */
export const primaryCommands = [
  ...readingCommands,
  ...[
    "del",
    "exists",
    "expire",
    "get",
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hincrby",
    "hlen",
    "hscan",
    "hset",
    "hsetnx",
    "hvals",
  ],
  ...["incrby", "lindex", "llen", "lpop", "lpush", "lrange", "ltrim", "pexpire", "rpush", "srandmember"],
  ...["sadd", "set", "sismember", "smembers", "spublish", "srem", "sscan", "time", "xadd", "xlen", "xtrim"],
  ...["zadd", "zcard", "zrange", "zrangebyscore", "zrem", "zscan", "zscore"],
] as const;
/** Further commands of moves between several cells. The test compares this list, too. */
export const movingCommands = [
  ...["client|id", "client|tracking", "dump", "restore", "scan", "subscribe", "unlink", "wait"],
] as const;
/** Further commands of a cluster client. */
const clusterCommands = ["cluster|slots", "cluster|info"];

/** `EVAL` is renamed or switched off, or no Lua engine is loaded (Valkey). */
const withoutScripts = /unknown command '?(eval|evalsha)\b|could not find scripting engine/i;
const deniedCommand = /no permissions to run the '([^']+)' command/;

const untrusted = "no trusted authority signed the server's certificate: set REDIS_TLS_CA";
/** By error code of a failed connection. */
const tlsFindings: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  UNABLE_TO_GET_ISSUER_CERT: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is for another host than its address names",
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "the server requires a certificate: set REDIS_TLS_CERT and REDIS_TLS_KEY",
};

/**
 * Ignores servers that are busy or out of reach: a program starts without them and waits.
 * @throws SettingsError with everything that an operator has to change.
 */
export async function checkRedisSetup(target: RedisTarget): Promise<void> {
  const findings = await findingsOf(target);
  if (findings.length > 0) throw new SettingsError(findings);
}

/** As {@link checkRedisSetup}, for each cell. */
export async function checkCells(targets: CellTargets): Promise<void> {
  const findings = await inParallel([...targets], async ([name, target]) => {
    if (targets.size === 1) return findingsOf(target);
    const found = await findingsOf(target, movingCommands);
    return found.map(
      (finding) => `REDIS_CELLS: ${name}: ${finding.replace(/^REDIS_(URL|SENTINELS|SENTINEL_MASTER|CLUSTER): /, "")}`,
    );
  });
  if (findings.length > 0) throw new SettingsError(findings);
}

async function findingsOf(target: RedisTarget, further: readonly string[] = []): Promise<string[]> {
  const { tls } = target;
  const root = rootOf(target);
  const readUrl = target.kind === "cluster" ? undefined : target.readUrl;
  const replica =
    readUrl === undefined
      ? []
      : inspect("REDIS_READ_URL", parseServerUrl(readUrl), tls, (client) =>
          checkData(client, "standalone", readingCommands, root),
        );
  switch (target.kind) {
    case "standalone": {
      const primary = inspect("REDIS_URL", parseServerUrl(target.url), tls, (client) =>
        checkData(client, "standalone", [...primaryCommands, ...further], root),
      );
      return (await Promise.all([primary, replica])).flat();
    }
    case "sentinel":
      return (await Promise.all([sentinelFindings(target, further), replica])).flat();
    case "cluster":
      return inParallel(parseClusterNodes(target.nodes), (address) =>
        inspect(`REDIS_CLUSTER: ${addressText(address)}`, address, tls, (client) =>
          checkData(client, "cluster", [...primaryCommands, ...clusterCommands, ...further], root),
        ),
      );
  }
}

async function sentinelFindings(
  target: RedisTarget & { kind: "sentinel" },
  further: readonly string[],
): Promise<string[]> {
  const root = rootOf(target);
  const { name, ...login } = parseNamedPrimary(target.master);
  const named: ServerAddress[] = [];
  let unknown = 0;
  const findings = await inParallel(parseSentinels(target.sentinels), (address) =>
    inspect(`REDIS_SENTINELS: ${addressText(address)}`, address, target.tls, async (client) => {
      if (modeOf(await client.info("server")) !== "sentinel") return ["is not a sentinel"];
      const answer = (await client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)) as [string, string] | null;
      if (answer) named.push({ ...login, host: answer[0], port: Number(answer[1]) });
      else unknown++;
      return [];
    }),
  );
  const [primary] = named;
  if (!primary) {
    return unknown === 0 ? findings : [...findings, `REDIS_SENTINEL_MASTER: no sentinel knows a primary named ${name}`];
  }
  const ofPrimary = await inspect(`REDIS_SENTINEL_MASTER: ${addressText(primary)}`, primary, target.tls, (client) =>
    checkData(client, "standalone", [...primaryCommands, ...further], root),
  );
  return [...findings, ...ofPrimary];
}

/** @returns findings about a server that holds data. @param root begins the names of keys and topics. */
async function checkData(
  client: Redis,
  mode: "standalone" | "cluster",
  commands: readonly string[],
  root: string,
): Promise<string[]> {
  const info = await client.info("server");
  const found = modeOf(info);
  if (found !== undefined && found !== mode) return [`is ${modes[found].name}: set ${modes[found].setting}`];
  const version = fieldOf(info, "redis_version");
  if (Number.parseInt(version, 10) < minMajorVersion) {
    return [`is Redis ${version}; ${minMajorVersion} or later is needed`];
  }
  const denied = (await send(client, checkRights.name, [`${root}:{0}:check`, ...commands])) as string[];
  return denied.length === 0 ? [] : [`the user may not run ${denied.join(" ")}`];
}

const modes = {
  standalone: { name: "not part of a cluster", setting: "REDIS_URL" },
  cluster: { name: "part of a cluster", setting: "REDIS_CLUSTER" },
  sentinel: { name: "a sentinel", setting: "REDIS_SENTINELS and REDIS_SENTINEL_MASTER" },
} as const;

/** Valkey names the field differently. Undefined where the server reports no mode. */
function modeOf(info: string): keyof typeof modes | undefined {
  const mode = fieldOf(info, "(?:redis|server)_mode");
  return (["standalone", "cluster", "sentinel"] as const).find((known) => known === mode);
}

/** @param what names the server; begins each finding. */
async function inspect(
  what: string,
  address: ServerAddress,
  tls: RedisTls | undefined,
  check: (client: Redis) => Promise<string[]>,
): Promise<string[]> {
  const client = openForCheck(address, tls);
  const failures: Error[] = [];
  client.on("error", (error: Error) => failures.push(error));
  const findings: string[] = [];
  try {
    await client.connect();
    findings.push(...(await check(client)));
  } catch (error) {
    failures.push(error as Error);
  } finally {
    client.disconnect();
  }
  findings.push(...failures.flatMap((failure) => explain(failure, address)));
  return [...new Set(findings)].map((finding) => `${what}: ${finding}`);
}

function explain(failure: Error & { code?: string }, { database }: ServerAddress): string[] {
  const denied = deniedCommand.exec(failure.message)?.[1];
  if (denied !== undefined) return [`the user may not run ${denied}`];
  const refusal = refusalOf(failure);
  if (refusal) {
    if (!refusal.preventsStart) return [];
    return [/DB index/.test(failure.message) ? `${refusal.reason} (${database})` : refusal.reason];
  }
  if (withoutScripts.test(failure.message)) return ["the server runs no Lua scripts: enable EVAL and EVALSHA"];
  if (failure.name === "ReplyError" && /unknown command/i.test(failure.message)) return [failure.message];
  const finding = tlsFindings[failure.code ?? ""];
  return finding === undefined ? [] : [finding];
}

function fieldOf(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1] ?? "";
}

async function inParallel<Item>(
  items: readonly Item[],
  findings: (item: Item) => Promise<string[]>,
): Promise<string[]> {
  return (await Promise.all(items.map(findings))).flat();
}
