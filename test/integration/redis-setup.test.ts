/** Wrong Redis settings are found before a program starts. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { gatewaySettings } from "../../gateway/config.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { checkRedisSetup } from "../../shared/redis/setup.ts";
import { SettingsError } from "../../shared/runtime/settings.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { freePort, spawnProcess } from "../support/processes.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedisSentinel } from "../support/redis-sentinel.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let certificates: Certificates;
beforeAll(async () => {
  [redis, certificates] = await Promise.all([startRedis(), makeCertificates()]);
});
afterAll(async () => {
  await redis.stop();
  await certificates.stop();
});

const required = { PRIVATE_API_TOKEN: "token-of-the-gateway", AUTH_JWT_SECRET: "x".repeat(32) };
const password = "hidden-word";

async function findings(find: () => unknown): Promise<readonly string[]> {
  try {
    await find();
  } catch (error) {
    if (error instanceof SettingsError) return error.findings;
    throw error;
  }
  return [];
}

async function settingFindings(settings: Record<string, string>): Promise<readonly string[]> {
  return findings(() => gatewaySettings.read({ ...required, ...settings }, { embedded: true }));
}

async function setupFindings(target: RedisTarget): Promise<readonly string[]> {
  return findings(() => checkRedisSetup(target));
}

test("RSET-1: a wrong address is refused, and the finding says what to change", async () => {
  const wrong: Record<string, RegExp> = {
    "redis://redis/staging": /number of a database/,
    "redis://redis/-1": /number of a database/,
    "redis://redis/0/1": /number of a database/,
    [`redis://:${password}%@redis`]: /password has a % .* write %25/,
    [`redis://${password}@redis`]: /must have a password where it has a user/,
    [`redis://:${password}@redis/0?keyPrefix=x`]: /must have no query/,
    "redis://redis/0#x": /must have no fragment/,
    [`redis://:${password}#@redis`]: /special characters/,
    "redis:///0": /must name a host/,
    "http://redis": /must be a URL that starts with redis:/,
    redis: /must be a URL that starts with redis:/,
    "redis://redis:0": /must have a port/,
    "redis://red\nis": /without spaces and line breaks/,
  };
  for (const [REDIS_URL, expected] of Object.entries(wrong)) {
    const found = await settingFindings({ REDIS_URL, REDIS_READ_URL: REDIS_URL });
    expect(found, REDIS_URL).toHaveLength(2);
    expect(found[0]).toMatch(/^REDIS_URL: /);
    expect(found[0]).toMatch(expected);
    expect(found[1]).toMatch(/^REDIS_READ_URL: /);
    expect(found.join("\n")).not.toContain(password);
  }
  for (const REDIS_URL of [
    "redis://redis",
    "rediss://:p%40%25@[::1]:6380/15",
    "redis://a:b@redis/",
    "REDIS://redis/0",
  ]) {
    expect(await settingFindings({ REDIS_URL })).toEqual([]);
  }
});

test("RSET-1: entries of lists, the name of the primary and files are checked too", async () => {
  const login = `user:${password}@`;
  const emptyFile = join(certificates.files.ca, "..", "empty.pem");
  await writeFile(emptyFile, "");
  const wrong: [settings: Record<string, string>, expected: RegExp][] = [
    [{ REDIS_CLUSTER: "a:1,::1:6379" }, /^REDIS_CLUSTER: entry 2: must be host:port, \[IPv6\]:port or/],
    [{ REDIS_CLUSTER: "a:1,b:70000" }, /entry 2: must be host:port/],
    [{ REDIS_CLUSTER: `a:1,${login}b:2` }, /entry 2: must be host:port/],
    [{ REDIS_CLUSTER: "," }, /must name at least one server/],
    [{ REDIS_CLUSTER: `redis://${login}a:1/2` }, /entry 1: must name no database/],
    [{ REDIS_CLUSTER: `redis://${login}a:1,rediss://${login}b:2` }, /the same scheme, user and password/],
    [{ REDIS_SENTINELS: "a", REDIS_SENTINEL_MASTER: "main" }, /^REDIS_SENTINELS: entry 1/],
    [{ REDIS_SENTINELS: "a:1", REDIS_SENTINEL_MASTER: "a b" }, /^REDIS_SENTINEL_MASTER: must be a name/],
    [{ REDIS_SENTINELS: "a:1", REDIS_SENTINEL_MASTER: `redis://${login}main:1` }, /^REDIS_SENTINEL_MASTER: .* no port/],
    [{ REDIS_URL: "rediss://a", REDIS_TLS_CA: "/nowhere.pem" }, /^REDIS_TLS_CA: the file cannot be read \(ENOENT\)/],
    [{ REDIS_URL: "rediss://a", REDIS_TLS_CA: emptyFile }, /^REDIS_TLS_CA: the file contains no PEM/],
    [{ REDIS_URL: "rediss://a", REDIS_TLS_KEY: certificates.files.key }, /REDIS_TLS_CERT, REDIS_TLS_KEY: set both/],
  ];
  for (const [settings, expected] of wrong) {
    const found = await settingFindings(settings);
    expect(found, JSON.stringify(settings)).toHaveLength(1);
    expect(found[0]).toMatch(expected);
    expect(found[0]).not.toContain(password);
  }
  const right = { REDIS_CLUSTER: `rediss://${login}a:1,b:2,[::1]:6379` };
  expect(await settingFindings(right)).toEqual([]);
});

test.for(["gateway", "private-api"])(
  "RSET-2: %s does not start on a database that Redis does not have, and logs why",
  async (program) => {
    await asked(redis, (client) => client.call("ACL", "SETUSER", "u", "on", `>${password}`, "~*", "&*", "+@all"));
    const started = spawnProcess(process.execPath, [`${program}/main.ts`], {
      env: {
        ...required,
        PRIVATE_API_TOKENS: "[]",
        REDIS_URL: `redis://u:${password}@127.0.0.1:${redis.port}/99`,
      },
    });
    expect(await started.exited).toBe(78);
    expect(started.output()).toContain("REDIS_URL: the server has no database of that number (99)");
    expect(started.output()).not.toContain(password);
  },
);

test("RSET-2: a wrong login, right or kind of server is found, all findings at once", async () => {
  const url = (login: string): string => `redis://${login}127.0.0.1:${redis.port}`;
  const setUser = async (...rules: string[]) =>
    asked(redis, (client) => client.call("ACL", "SETUSER", "low", "reset", "on", `>${password}`, ...rules));
  await setUser("~other:*", "&*", "+@all");
  expect(await setupFindings({ kind: "standalone", url: url("low:wrong@"), readUrl: url(`low:${password}@`) })).toEqual(
    ["REDIS_URL: the server does not accept this user and password", "REDIS_READ_URL: the user lacks a right"],
  );
  await setUser("~tidegate:*", "&tidegate:*", "+@all", "-xadd", "-hset");
  expect(await setupFindings({ kind: "standalone", url: url(`low:${password}@`) })).toEqual([
    "REDIS_URL: the user may not run hset xadd",
  ]);
  const node = `127.0.0.1:${redis.port}`;
  expect(await setupFindings({ kind: "cluster", nodes: [node] })).toEqual([
    `REDIS_CLUSTER: ${node}: is not part of a cluster: set REDIS_URL`,
  ]);
  expect(await setupFindings({ kind: "sentinel", sentinels: [node], master: "main" })).toEqual([
    `REDIS_SENTINELS: ${node}: is not a sentinel`,
  ]);
});

test("RSET-2: a server without Lua scripts, or a user who may not run them, is found", async () => {
  const server = await startRedis({ settings: ["--rename-command", "EVAL", ""] });
  expect(await setupFindings({ kind: "standalone", url: server.url })).toEqual([
    "REDIS_URL: the server runs no Lua scripts: enable EVAL and EVALSHA",
  ]);
  await server.stop();
  const rules = [`>${password}`, "~*", "&*", "+@all", "-@scripting"];
  await asked(redis, (client) => client.call("ACL", "SETUSER", "plain", "on", ...rules));
  expect(await setupFindings({ kind: "standalone", url: `redis://plain:${password}@127.0.0.1:${redis.port}` })).toEqual(
    ["REDIS_URL: the user may not run eval"],
  );
});

test("RSET-2: an unknown primary name and a cluster server as REDIS_URL are found", async () => {
  const sentinel = await startRedisSentinel();
  const cluster = await startRedisCluster();
  expect(await setupFindings(sentinel.target)).toEqual([]);
  expect(await setupFindings({ ...sentinel.target, master: "other" })).toEqual([
    "REDIS_SENTINEL_MASTER: no sentinel knows a primary named other",
  ]);
  expect(await setupFindings(cluster.target)).toEqual([]);
  expect(await setupFindings({ kind: "standalone", url: cluster.servers[0]?.url ?? "" })).toEqual([
    "REDIS_URL: is part of a cluster: set REDIS_CLUSTER",
  ]);
  await Promise.all([sentinel.stop(), cluster.stop()]);
});

test("RSET-2: an untrusted or missing certificate is found", async () => {
  const secure = { certificates, user: "u", password };
  const server = await startRedis({ secure });
  const { ca, cert, key } = certificates.pem;
  expect(await setupFindings({ kind: "standalone", url: server.url })).toEqual([
    "REDIS_URL: no trusted authority signed the server's certificate: set REDIS_TLS_CA",
  ]);
  expect(await setupFindings({ kind: "standalone", url: server.url, tls: { ca } })).toEqual([
    "REDIS_URL: the server requires a certificate: set REDIS_TLS_CERT and REDIS_TLS_KEY",
  ]);
  expect(await setupFindings({ kind: "standalone", url: server.url, tls: { ca, cert, key } })).toEqual([]);
  await server.stop();
});

test("RSET-3: a server that is away, hangs, is full or is a replica does not prevent a start", async () => {
  const gone = await freePort();
  expect(await setupFindings({ kind: "standalone", url: `redis://127.0.0.1:${gone}` })).toEqual([]);
  expect(await setupFindings({ kind: "cluster", nodes: [`127.0.0.1:${gone}`] })).toEqual([]);
  expect(await setupFindings({ kind: "sentinel", sentinels: [`127.0.0.1:${gone}`], master: "main" })).toEqual([]);
  const server = await startRedis();
  const target = { kind: "standalone", url: server.url } as const;
  await asked(server, (client) => client.config("SET", "maxmemory", "1"));
  await asked(server, (client) => client.config("SET", "min-replicas-to-write", "1"));
  expect(await setupFindings(target)).toEqual([]);
  await asked(server, (client) => client.replicaof("127.0.0.1", gone));
  await asked(server, (client) => client.config("SET", "replica-serve-stale-data", "no"));
  expect(await setupFindings(target)).toEqual([]);
  server.signal("SIGSTOP");
  expect(await setupFindings(target)).toEqual([]);
  await server.stop();
});
