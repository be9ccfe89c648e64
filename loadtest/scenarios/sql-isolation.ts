/**
 * Freshness of the shards of a SQL source while one of them is frozen, and while transactions stay open for a minute.
 *
 *   npm run loadtest -- sql-isolation [--json]
 *   SHARDS (200) MARIADB (0; 1: in place of PostgreSQL) RATE (50 rows a second, of all shards) QUIET (10 s) LONG (60 s) FROZEN (20 s)
 *
 * Real PostgreSQL or MariaDB, Redis and private API; every shard is a schema, or a database of MariaDB, with a connection of its own. Freshness is the time from the commit of a row to
 * its change in a long poll. Verdicts: every row arrives once, and the others do not notice a long transaction or a frozen shard.
 */
import { setTimeout as pause } from "node:timers/promises";
import { isGap, pull } from "../../test/support/change-puller.ts";
import { privateApiTokens, tokens } from "../../test/support/fleet.ts";
import { freePort, spawnProcess } from "../../test/support/processes.ts";
import { startRedis } from "../../test/support/redis.ts";
import { shardStates } from "../../test/support/sql-source.ts";
import { insertOf, type SqlSession } from "../../test/support/sql-workload.ts";
import { startTcpProxy } from "../../test/support/tcp-proxy.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { type SqlSchemas, startMariaDbSchemas, startPostgresSchemas } from "../rig/sql-schemas.ts";

const parameters = {
  shards: parameter("SHARDS", 200, 2, 400),
  mariaDb: parameter("MARIADB", 0, 0, 1),
  rate: parameter("RATE", 50, 1, 1_000),
  quietSeconds: parameter("QUIET", 10, 1, 600),
  longSeconds: parameter("LONG", 60, 1, 600),
  frozenSeconds: parameter("FROZEN", 20, 1, 600),
};
/** The median of a phase, compared with the quiet one. The clock of both is this process's: the machine may be busy. */
const allowed = { factor: 2, ms: 50 };
const arriveMs = 60_000;

/** Rows that were committed, by n: in which phase and when; and when each arrived. By `performance.now()`. */
interface Rows {
  readonly committed: Map<number, { phase: string; at: number }>;
  readonly arrived: Map<number, number[]>;
}

interface Stage {
  readonly apiUrl: string;
  /** Of the writers, by shard. */
  readonly sessions: readonly SqlSession[];
  readonly database: SqlSchemas;
  /** Of the last shard. */
  readonly lastUrl: string;
  /** Freezes the first shard. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

async function startStage(): Promise<Stage> {
  const [redis, database] = await Promise.all([
    startRedis(),
    (parameters.mariaDb === 1 ? startMariaDbSchemas : startPostgresSchemas)(parameters.shards * 2 + 50),
  ]);
  const { server, driver } = database;
  const proxy = await startTcpProxy(server.port);
  const urls: Record<string, string> = {};
  const sessions: SqlSession[] = [];
  for (let n = 0; n < parameters.shards; n++) {
    const url = await database.urlOf(n);
    const session = await database.connect(url);
    await session.query(database.ddl);
    sessions.push(session);
    urls[`SHARD_${n}`] = n === 0 ? url.replace(String(server.port), String(proxy.port)) : url;
  }
  const port = await freePort();
  const env = {
    ...urls,
    ...{ PRIVATE_API_HOST: "127.0.0.1", PRIVATE_API_PORT: String(port), PRIVATE_API_TOKENS: privateApiTokens },
    ...{ REDIS_URL: redis.url, LOG_LEVEL: "error" },
  };
  const program = spawnProcess(process.execPath, ["private-api/main.ts"], { env });
  const apiUrl = `http://127.0.0.1:${port}`;
  await waitFor("the private API", async () => (await fetch(`${apiUrl}/readyz`)).ok);
  const source = {
    ...{ driver, url: Object.keys(urls).map((name) => `env:${name}`), table: "transactions" },
    ...{ channel: "account:{account_id}", event: "{object_type}.{action}", data: "payload" },
    ...(driver === "postgres" && { notify: "tidegate" }),
  };
  await fetch(`${apiUrl}/v1/rules`, {
    method: "PUT",
    headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
    body: JSON.stringify({ namespaces: { default: { changes: true, historySize: 0 } }, sqlSources: { crm: source } }),
  });
  await waitFor("all shards", async () => {
    const states = [...(await shardStates(apiUrl)).values()];
    return states.length === parameters.shards && states.every(({ state }) => state === "live");
  });
  return {
    ...{ apiUrl, sessions, database, lastUrl: urls[`SHARD_${parameters.shards - 1}`] ?? "" },
    freeze: () => proxy.set("stalled"),
    thaw: () => proxy.heal(),
    stop: async () => {
      await Promise.all(sessions.map(async (session) => session.end()));
      program.kill("SIGKILL");
      await program.exited;
      await proxy.stop();
      await Promise.all([redis.stop(), database.stop()]);
    },
  };
}

async function waitFor(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    if (await condition().catch(() => false)) return;
    if (performance.now() > deadline) throw new Error(`${what}: not ready`);
    await pause(200);
  }
}

async function run(): Promise<ScenarioReport> {
  const stage = await startStage();
  try {
    return await measure(stage);
  } finally {
    await stage.stop();
  }
}

async function measure(stage: Stage): Promise<ScenarioReport> {
  const rows: Rows = { committed: new Map(), arrived: new Map() };
  const ending = new AbortController();
  const { cursor } = await pull(stage.apiUrl, { cursor: "end" });
  const pulling = follow(stage.apiUrl, { cursor, rows, signal: ending.signal });
  await write(stage, rows, { phase: "warm-up", seconds: 2, first: 0 });
  await write(stage, rows, { phase: "quiet", seconds: parameters.quietSeconds, first: 1 });
  const long = await openTransactions(stage);
  await write(stage, rows, { phase: "long transactions", seconds: parameters.longSeconds, first: 1 });
  for (const session of long) {
    await session.query("COMMIT");
    await session.end();
  }
  rows.committed.set(longRow, { phase: "the long transaction itself", at: performance.now() });
  stage.freeze();
  await write(stage, rows, { phase: "one shard frozen", seconds: parameters.frozenSeconds, first: 1 });
  stage.thaw();
  await write(stage, rows, { phase: "thawed", seconds: 2, first: 0 });
  const deadline = performance.now() + arriveMs;
  while (missingOf(rows).length > 0 && performance.now() < deadline) await pause(100);
  ending.abort();
  await pulling;
  return reportOf(rows);
}

/** In the database of the shards, with a row, and in another one. */
async function openTransactions({ database, lastUrl }: Stage): Promise<SqlSession[]> {
  const own = await database.connect(lastUrl);
  await own.query("BEGIN");
  await own.query(insertOf("long", longRow));
  return [own, await database.openElsewhere()];
}

let n = 0;
const longRow = 0;

/** Shards take turns. @param options.first the first shard that is written */
async function write(
  { sessions }: Stage,
  { committed }: Rows,
  { phase, seconds, first }: { phase: string; seconds: number; first: number },
): Promise<void> {
  say(phase);
  const until = performance.now() + seconds * 1_000;
  const writing: Promise<void>[] = [];
  for (let at = first; performance.now() < until; at = at + 1 < sessions.length ? at + 1 : first) {
    const own = ++n;
    const session = sessions[at];
    if (session) {
      writing.push(
        session.query(insertOf(at, own)).then(() => void committed.set(own, { phase, at: performance.now() })),
      );
    }
    await pause(1_000 / parameters.rate);
  }
  await Promise.all(writing);
}

async function follow(
  apiUrl: string,
  given: { cursor: string; rows: Pick<Rows, "arrived">; signal: AbortSignal },
): Promise<void> {
  const { signal } = given;
  const { arrived } = given.rows;
  let { cursor } = given;
  while (!signal.aborted) {
    const answer = await pull(apiUrl, { cursor, waitMs: 1_000 });
    const at = performance.now();
    ({ cursor } = answer);
    for (const item of answer.changes) {
      if (isGap(item)) throw new Error("the log has a gap");
      const { n: own } = item.data as { n: number };
      arrived.set(own, [...(arrived.get(own) ?? []), at]);
    }
  }
}

function missingOf({ committed, arrived }: Rows): number[] {
  return [...committed.keys()].filter((own) => !arrived.has(own));
}

function reportOf({ committed, arrived }: Rows): ScenarioReport {
  const freshness = new Map<string, number[]>();
  for (const [own, { phase, at }] of committed) {
    const [first = Infinity] = arrived.get(own) ?? [];
    freshness.set(phase, [...(freshness.get(phase) ?? []), Math.max(0, first - at)]);
  }
  const missing = missingOf({ committed, arrived }).length;
  const doubled = [...arrived.values()].filter(({ length }) => length > 1).length;
  const quietMs = percentile(freshness.get("quiet") ?? [], 0.5);
  const compared = ["long transactions", "one shard frozen"].map((phase) => {
    const ms = percentile(freshness.get(phase) ?? [], 0.5);
    return {
      title: `${phase}: others are as fresh as before (median)`,
      pass: ms <= quietMs * allowed.factor + allowed.ms,
      value: `${ms.toFixed(1)} ms, quiet ${quietMs.toFixed(1)} ms`,
    };
  });
  return {
    scenario: "sql-isolation",
    parameters: { ...parameters },
    figures: { rows: committed.size },
    tables: [
      {
        columns: ["phase", "rows", "p50 ms", "p90 ms", "p99 ms"],
        rows: [...freshness].map(([phase, all]) => [
          phase,
          all.length,
          ...[0.5, 0.9, 0.99].map((share) => Math.round(percentile(all, share))),
        ]),
      },
    ],
    verdicts: [
      { title: "rows that never arrived", pass: missing === 0, value: missing },
      { title: "rows that arrived twice", pass: doubled === 0, value: doubled },
      ...compared,
    ],
  };
}

await runScenario(run);
