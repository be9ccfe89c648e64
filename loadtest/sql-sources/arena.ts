/** Private APIs that read the shards of a PostgreSQL and a MariaDB server, and the faults of all of them. */
import { startMariaDb } from "../../test/support/mariadb.ts";
import { type SqlServer, startPostgres } from "../../test/support/postgres.ts";
import { startRedis } from "../../test/support/redis.ts";
import { mariaDbSessions, postgresSessions } from "../../test/support/sql-workload.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { RedisSqlShardStore } from "../../shared/sql-sources/redis.ts";
import { quietErrors, quietLogger } from "../../test/support/logger.ts";
import { type Deployment, startDeployment } from "../checker/schedule-deployment.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import { redisRestart, workerFaults } from "../order/faults.ts";
import { type KillFigures, killedInGap } from "./gap-kills.ts";
import { type ArenaShard, mariaShards, postgresShards, readersIn } from "./shards.ts";

export interface SqlArena {
  readonly deployment: Deployment;
  readonly shards: readonly ArenaShard[];
  readonly faults: readonly Fault[];
  /** Targets that have a fault. */
  readonly busy: Set<object>;
  stop(): Promise<void>;
}

/** `kills`: private APIs are killed, nothing else. */
export const faultSets = ["all", "kills"] as const;
export type FaultSet = (typeof faultSets)[number];

const privateApiCount = 3;
const maxConnections = 500;
const mapping = { table: "transactions", event: "{object_type}.{action}", data: "payload", start: "beginning" };

/** @param kills counted here */
export async function startSqlArena(set: FaultSet, kills: KillFigures): Promise<SqlArena> {
  const [redis, postgres, maria] = await Promise.all([
    startRedis({ appendOnly: true }),
    startPostgres({ connections: maxConnections }),
    startMariaDb({ connections: maxConnections }),
  ]);
  const stopServers = async (): Promise<void> => {
    await Promise.all([redis.stop(), postgres.stop(), maria.stop()]);
  };
  const ofPostgres = await postgresShards(postgres);
  const ofMaria = await mariaShards(maria, privateApiCount);
  const settings = { REDIS_URL: redis.url, CHANGES_MAX_BYTES: String(2 ** 40), PRIVATE_API_STOP_SECONDS: "6" };
  const urlsOf = (number: number): Record<string, string> =>
    Object.fromEntries([...ofPostgres, ...ofMaria].map(({ variable, readerUrl }) => [variable, readerUrl(number)]));
  const variables = (shards: readonly { variable: string }[]): string[] =>
    shards.map(({ variable }) => `env:${variable}`);
  const deployment = await startDeployment({
    servers: { stop: stopServers },
    privateApis: Array.from({ length: privateApiCount }, (_, number) => ({ ...settings, ...urlsOf(number) })),
    gateways: [],
    rules: {
      namespaces: { default: { changes: true, historySize: 0 } },
      sqlSources: {
        pg: { ...mapping, driver: "postgres", url: variables(ofPostgres), channel: "pg:{account_id}" },
        maria: { ...mapping, driver: "mysql", url: variables(ofMaria), channel: "maria:{account_id}" },
      },
    },
  });
  const shards = [...ofPostgres, ...ofMaria].map(({ shard }) => shard);
  const connections = new RedisConnections({
    ...{ target: { kind: "standalone", url: redis.url }, errors: quietErrors, logger: quietLogger },
  });
  await connections.start();
  const [, frozen] = workerFaults(deployment.privateApis);
  if (!frozen) throw new Error("private APIs are frozen");
  const killed = killedInGap({
    ...{ privateApis: deployment.privateApis, shards, kills, store: new RedisSqlShardStore(new Cells(connections)) },
    readBy: readersIn({ pg: postgresSessions(postgres.url), maria: mariaDbSessions(maria.url) }),
  });
  const others = [
    frozen,
    databaseRestart("PostgreSQL killed, restarted", postgres),
    databaseRestart("MariaDB killed, restarted", maria),
    redisRestart(redis),
  ];
  return {
    ...{ deployment, shards, busy: new Set() },
    faults: set === "kills" ? [killed] : [killed, ...others],
    stop: async () => {
      await connections.stop();
      await deployment.stop();
      await stopServers();
    },
  };
}

function databaseRestart(kind: string, server: SqlServer): Fault {
  return {
    kind,
    targets: [server],
    run: async (_, random, signal) => {
      await server.kill();
      await lasts(random.between(0, 2_000), signal);
      await server.restart();
    },
  };
}
