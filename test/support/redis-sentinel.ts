/** A primary with replicas and three sentinels, as real processes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "./eventually.ts";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";
import { asked } from "./redis-failover.ts";
import { type RedisServer, type Secure, startRedis, tlsSettings } from "./redis.ts";

const master = "tidegate";
const sentinelCount = 3;
/** Past this a server that does not answer counts as down. With 1 s a sentinel on a starved machine replaced a primary that it had just elected. */
const downAfterMs = 2_000;
/** The next failover may begin twice this after the last. */
const failoverTimeoutMs = 1_500;

/** A primary that is down for one sentinel, for most, or again there; what becomes of it. */
const takeoverEvents = /[+-](?:sdown master|odown|switch-master|convert-to-slave|failover-|tilt)/;

export interface RedisSentinel {
  readonly target: RedisTarget & { kind: "sentinel" };
  /** The first one begins as the primary. */
  readonly servers: readonly RedisServer[];
  /** What the sentinels printed on primaries that went down or were replaced. */
  takeovers(): string[];
  /** Whom the sentinels agree on. */
  primary(): Promise<RedisServer>;
  /** Resolves once the sentinels agree on another primary than `former`, and it takes writes. */
  promoted(former: RedisServer): Promise<RedisServer>;
  /** Resolves once every other server copies from the primary; those that are down come back as its replicas. */
  whole(): Promise<void>;
  stop(): Promise<void>;
}

/** @param options.sentinels how they want to be logged in to, beside what `secure` says of the data. */
export async function startRedisSentinel({
  replicas = 1,
  secure,
}: { replicas?: number; secure?: { data: Secure; sentinels: Secure } } = {}): Promise<RedisSentinel> {
  // A primary that comes back as a replica may be promoted again before it has copied anything: it must not be empty then.
  const dataOptions = { appendOnly: true, ...(secure && { secure: secure.data }) };
  const first = await startRedis(dataOptions);
  const others = Array.from({ length: replicas }, () => startRedis({ replicaOf: first.port, ...dataOptions }));
  const servers = [first, ...(await Promise.all(others))];
  const folder = await mkdtemp(join(tmpdir(), "tidegate-sentinel-"));
  const sentinels = await Promise.all(
    Array.from({ length: sentinelCount }, (_, n) => startSentinel(join(folder, `${n}.conf`), first.port, secure)),
  );
  const login = secure && {
    username: secure.sentinels.user,
    password: secure.sentinels.password,
    tls: secure.sentinels.certificates.pem,
  };
  const clients = sentinels.map(({ port }) => new Redis({ port, protocol: 2, commandTimeout: 5_000, ...login }));
  for (const client of clients) client.on("error", () => undefined);

  async function agreedPort(): Promise<number | undefined> {
    const answers = await Promise.all(
      clients.map((client) => client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master).catch(() => undefined)),
    );
    const ports = answers.map((answer) => Number((answer as [string, string] | undefined)?.[1]));
    return ports.every((port) => port === ports[0]) ? ports[0] : undefined;
  }
  async function primary(): Promise<RedisServer> {
    let found: RedisServer | undefined;
    await eventually(async () => {
      const port = await agreedPort();
      found = servers.find((server) => server.port === port);
      return found !== undefined;
    }, 120_000);
    return found as RedisServer;
  }
  async function knowsAll(client: Redis): Promise<boolean> {
    const fields = (await client.call("SENTINEL", "MASTER", master)) as string[];
    const field = (name: string): string | undefined => fields[fields.indexOf(name) + 1];
    return field("num-other-sentinels") === String(sentinelCount - 1) && field("num-slaves") === String(replicas);
  }

  await eventually(async () => (await Promise.all(clients.map(knowsAll))).every(Boolean), 120_000);
  return {
    target: targetOf(
      sentinels.map(({ port }) => port),
      secure,
    ),
    servers,
    takeovers: () =>
      sentinels.flatMap(({ port, process }) =>
        process
          .output()
          .split("\n")
          .filter((line) => takeoverEvents.test(line))
          .map((line) => `sentinel ${port}: ${line}`),
      ),
    primary,
    promoted: async (former) => {
      let now = former;
      await eventually(async () => {
        now = await primary();
        return now !== former && (await roleOf(now)) === "master";
      }, 60_000);
      return now;
    },
    whole: async () => {
      await eventually(async () => {
        // Asked each time: sentinels may change their mind once more.
        const { port } = await primary();
        const states = await Promise.all(servers.map((server) => isInPlace(server, port)));
        return states.every(Boolean) && (await Promise.all(clients.map(knowsAll))).every(Boolean);
      }, 60_000);
    },
    stop: async () => {
      for (const client of clients) client.disconnect();
      for (const { process } of sentinels) process.kill("SIGKILL");
      await Promise.all([...sentinels.map(({ process }) => process.exited), ...servers.map((server) => server.stop())]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function targetOf(ports: readonly number[], secure?: { data: Secure; sentinels: Secure }): RedisSentinel["target"] {
  const [firstPort, ...others] = ports.map((port) => `127.0.0.1:${port}`);
  if (!secure) return { kind: "sentinel", sentinels: [firstPort ?? "", ...others], master };
  const login = ({ user, password }: Secure): string => `rediss://${user}:${encodeURIComponent(password)}@`;
  return {
    kind: "sentinel",
    // Those that are no URL log in as the first that is one.
    sentinels: [login(secure.sentinels) + firstPort, ...others],
    master: login(secure.data) + master,
    tls: secure.data.certificates.pem,
  };
}

async function startSentinel(
  file: string,
  primaryPort: number,
  secure?: { data: Secure; sentinels: Secure },
): Promise<{ port: number; process: Spawned }> {
  const port = await freePort();
  const lines = [
    ...(secure
      ? tlsSettings(secure.sentinels.certificates, port).map((setting) => setting.join(" "))
      : [`port ${port}`]),
    "bind 127.0.0.1",
    `sentinel monitor ${master} 127.0.0.1 ${primaryPort} ${Math.floor(sentinelCount / 2) + 1}`,
    `sentinel down-after-milliseconds ${master} ${downAfterMs}`,
    `sentinel failover-timeout ${master} ${failoverTimeoutMs}`,
  ];
  if (secure) {
    const { data, sentinels } = secure;
    lines.push(
      `sentinel auth-user ${master} ${data.user}`,
      `sentinel auth-pass ${master} ${data.password}`,
      "user default off",
      `user ${sentinels.user} on >${sentinels.password} ~* &* +@all`,
      `sentinel sentinel-user ${sentinels.user}`,
      `sentinel sentinel-pass ${sentinels.password}`,
    );
  }
  await writeFile(file, lines.join("\n"));
  const process = spawnProcess("redis-server", [file, "--sentinel"]);
  await process.printed(`monitor master ${master}`);
  return { port, process };
}

/** A server that is down is started as a replica first. */
async function isInPlace(server: RedisServer, primaryPort: number): Promise<boolean> {
  if (!server.running) await server.restart({ replicaOf: primaryPort });
  const role = await asked(server, (client) => client.role()).catch(() => undefined);
  if (server.port === primaryPort) return role?.[0] === "master";
  return role?.[0] === "slave" && Number(role[2]) === primaryPort && role[3] === "connected";
}

async function roleOf(server: RedisServer): Promise<string | undefined> {
  const role = await asked(server, (client) => client.role()).catch(() => undefined);
  return role && String(role[0]);
}
