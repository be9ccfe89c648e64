/** Readers that are behind the change log continue from the tables of SQL sources, and join the log. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { askForChanges, changesOf, isGap, pull, pullAll } from "../support/change-puller.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { mariaDatabase, startMariaDb } from "../support/mariadb.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { shardStates } from "../support/sql-source.ts";
import { mariaDbSessions, postgresSessions, type SqlSession } from "../support/sql-workload.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

/** Of the whole log: about 15 rows. */
const maxBytes = 16 * 1024;
/** More than ten times what the log keeps. */
const manyRows = 200;
/** Accounts `down0` to `down3`: an endpoint gets changes of one channel one after the other. */
const channelCount = 4;

interface Kind {
  source: "pg" | "maria";
  sessions: (url: string) => () => Promise<SqlSession>;
  ddl: string;
  /** Rows with these n. */
  insert: (channel: string, first: number, last: number) => string;
}

const columns = "transactions (account_id, object_type, object_id, action, payload)";
const kinds: Kind[] = [
  {
    source: "pg",
    sessions: postgresSessions,
    ddl: "deploy/sql/postgres.sql",
    insert: (channel, first, last) =>
      `INSERT INTO ${columns} SELECT ${channel === "down" ? `'down' || n % ${channelCount}` : `'${channel}'`}, 'contact', n, 'updated', jsonb_build_object('n', n, 'text', repeat('x', 900))
       FROM generate_series(${first}, ${last}) AS numbers (n)`,
  },
  {
    source: "maria",
    sessions: mariaDbSessions,
    ddl: "deploy/sql/mysql.sql",
    insert: (channel, first, last) =>
      `INSERT INTO ${columns} SELECT ${channel === "down" ? `CONCAT('down', seq % ${channelCount})` : `'${channel}'`}, 'contact', seq, 'updated', JSON_OBJECT('n', seq, 'text', REPEAT('x', 900))
       FROM seq_${first}_to_${last}`,
  },
];

let redis: RedisServer;
let fleet: Fleet;
let proxy: TcpProxy;
const servers = new Map<string, SqlServer>();
const sessions = new Map<string, SqlSession>();
const services: HttpService[] = [];

const mapping = { table: "transactions", event: "{object_type}.{action}", data: "payload" };
const rules = {
  namespaces: { default: { changes: true, historySize: 0 } },
  sqlSources: {
    pg: { ...mapping, driver: "postgres", url: "env:PG_URL", channel: "pg:{account_id}" },
    maria: { ...mapping, driver: "mysql", url: "env:MARIA_URL", channel: "maria:{account_id}" },
  },
};

beforeAll(async () => {
  const [store, postgres, maria] = await Promise.all([startRedis(), startPostgres(), startMariaDb()]);
  redis = store;
  servers.set("pg", postgres).set("maria", maria);
  for (const { source, sessions: sessionsOf, ddl } of kinds) {
    const session = await sessionsOf(servers.get(source)?.url ?? "")();
    await session.query(await readFile(ddl, "utf8"));
    sessions.set(source, session);
  }
  proxy = await startTcpProxy(postgres.port);
  fleet = await startFleet({
    gateways: 0,
    target: { kind: "standalone", url: redis.url },
    environment: {
      PG_URL: postgres.url.replace(String(postgres.port), String(proxy.port)),
      MARIA_URL: `mysql://root@127.0.0.1:${maria.port}/${mariaDatabase}`,
      CHANGES_MAX_BYTES: String(maxBytes),
      ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8",
    },
  });
  // Three servers begin at once: Redis may take a while to answer.
  await eventually(async () => (await fleet.api("PUT", "/v1/rules", rules)).status === 200);
  await eventually(async () => {
    const states = await shardStates(fleet.apiUrl);
    return states.get("pg/PG_URL")?.state === "live" && states.get("maria/MARIA_URL")?.state === "live";
  });
});
afterAll(async () => {
  await Promise.all([...sessions.values()].map(async (session) => session.end()));
  await fleet.stop();
  await Promise.all(services.map(async (service) => service.stop()));
  await proxy.stop();
  await Promise.all([redis.stop(), ...[...servers.values()].map(async (server) => server.stop())]);
});

interface Delivery {
  type: string;
  channel: string;
  offset: number;
  data: { n: number };
}

/** An endpoint that is paused, and what it gets later. */
async function pausedEndpoint(channel: string): Promise<{ resume: () => Promise<void>; got: () => Delivery[] }> {
  const service = await startService();
  services.push(service);
  const created = await fleet.api("POST", "/v1/endpoints", { url: service.url, channels: [channel] });
  expect(created.status, created.text).toBe(201);
  const id = String(created.body["id"]);
  await fleet.api("POST", `/v1/endpoints/${id}/pause`);
  return {
    resume: async () => void (await fleet.api("POST", `/v1/endpoints/${id}/resume`)),
    got: () => service.requests.map(({ body }) => JSON.parse(body) as Delivery),
  };
}

async function insert({ source, insert: text }: Kind, channel: string, first: number, last: number): Promise<void> {
  const before = (await publishedOf(source)) + last - first + 1;
  await sessions.get(source)?.query(text(channel, first, last));
  await eventually(async () => (await publishedOf(source)) >= before);
}

async function publishedOf(source: string): Promise<number> {
  const states = await shardStates(fleet.apiUrl);
  return [...states].find(([name]) => name.startsWith(`${source}/`))?.[1].published ?? 0;
}

/** Fills the log with changes of others. */
async function publishOthers(channel: string, count: number): Promise<void> {
  const items = Array.from({ length: count }, (_, n) => ({
    channel,
    event: "moved",
    data: { n: -1 - n, text: "x".repeat(900) },
  }));
  const answer = await fleet.api("POST", "/v1/publish/batch", items);
  expect(answer.status, answer.text).toBe(200);
}

const numbers = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, at) => first + at);
const nOf = ({ data }: { data: unknown }): number => (data as { n: number }).n;

/** Rows 1 to `last`, each channel in order and with the offsets that followers saw. */
function expectWhole(
  source: string,
  items: readonly { channel: string; offset: number; data: unknown }[],
  last: number,
): void {
  expect(items.length).toBe(last);
  for (let at = 0; at < channelCount; at++) {
    const own = items.filter(({ channel }) => channel === `${source}:down${at}`);
    expect(own.map(nOf)).toEqual(numbers(1, last).filter((n) => n % channelCount === at));
    expect(own.map(({ offset }) => offset)).toEqual(own.map((_, index) => index + 1));
  }
}

describe.each(kinds)("from $source", (kind) => {
  const { source } = kind;

  test("SQL-13: a reader ten logs behind gets every row from the table, in order, and joins the log", async () => {
    const endpoint = await pausedEndpoint(`${source}:*`);
    const { cursor } = await pull(fleet.apiUrl, { channels: `${source}:*`, cursor: "end" });
    await insert(kind, "down", 1, manyRows);
    // Changes of another namespace leave the same log.
    await publishOthers(`board:${source}`, 40);
    await insert(kind, "down", manyRows + 1, manyRows + 40);
    const { changes: kept } = await pullAll([fleet.apiUrl], { channels: `${source}:*` });
    expect(kept.length, "what the log has").toBeLessThan(manyRows / 10);
    const { changes } = await pullAll([fleet.apiUrl], { channels: `${source}:*`, cursor });
    expect(changes.filter(isGap)).toEqual([]);
    expectWhole(
      source,
      changes.flatMap((item) => (isGap(item) ? [] : item)),
      manyRows + 40,
    );
    await endpoint.resume();
    // Joins the log while more comes.
    await insert(kind, "down", manyRows + 41, manyRows + 80);
    await eventually(() => endpoint.got().length >= manyRows + 80);
    expectWhole(source, endpoint.got(), manyRows + 80);
  });

  test("CUT-3: the ledger of a shadow has rows that have left the log, and go-live sends them", async () => {
    const service = await startService();
    services.push(service);
    const channel = `${source}:shadow`;
    const created = await fleet.api("POST", "/v1/endpoints", {
      ...{ url: service.url, channels: [channel], mode: "shadow" },
    });
    const path = `/v1/endpoints/${String(created.body["id"])}`;
    await insert(kind, "shadow", 1, 200);
    const { text } = await fleet.api("GET", `${path}/ledger`);
    const lines = text.trim().split("\n");
    expect(lines.map((line) => nOf(JSON.parse(line) as { data: unknown }))).toEqual(numbers(1, 200));
    const live = await fleet.api("POST", `${path}/go-live`, { after: [{ channel, offset: 20 }], others: "ledger" });
    expect(live.body["state"], live.text).toBe("live");
    await eventually(() => service.requests.length >= 180);
    expect(service.requests.map(({ body }) => nOf(JSON.parse(body) as Delivery))).toEqual(numbers(21, 200));
  });

  test("SQL-13: rows that are gone or have another channel, and what others published, are a gap", async () => {
    const channel = `${source}:mixed`;
    const endpoint = await pausedEndpoint(channel);
    const { cursor } = await pull(fleet.apiUrl, { channels: channel, cursor: "end" });
    await insert(kind, "mixed", 1, 50);
    await publishOthers(channel, 10);
    await insert(kind, "mixed", 51, 100);
    await sessions.get(source)?.query("DELETE FROM transactions WHERE account_id = 'mixed' AND object_id = '7'");
    await sessions
      .get(source)
      ?.query("UPDATE transactions SET account_id = 'mixed2' WHERE account_id = 'mixed' AND object_id = '9'");
    const { changes } = await pullAll([fleet.apiUrl], { channels: channel, cursor });
    expect(changes.filter(isGap).length).toBeGreaterThan(0);
    const expected = numbers(1, 100).filter((n) => n !== 7 && n !== 9);
    expect(changesOf(changes, channel).map(nOf)).toEqual(expected);
    await endpoint.resume();
    await eventually(() => endpoint.got().filter(({ type }) => type !== "tidegate.gap").length >= expected.length);
    const got = endpoint.got();
    expect(got.some(({ type }) => type === "tidegate.gap")).toBe(true);
    expect(got.filter(({ type }) => type !== "tidegate.gap").map(nOf)).toEqual(expected);
  });
});

test("SQL-13: a table that is out of reach delays its own readers only, and loses them nothing", async () => {
  const [, maria] = kinds;
  const [postgres] = kinds;
  if (!postgres || !maria) throw new Error("two databases");
  const [frozen, other] = [await pausedEndpoint("pg:frozen"), await pausedEndpoint("maria:other")];
  const { cursor } = await pull(fleet.apiUrl, { channels: "pg:frozen", cursor: "end" });
  await insert(postgres, "frozen", 1, 60);
  await insert(maria, "other", 1, 60);
  proxy.set("closed");
  const answer = await askForChanges(fleet.apiUrl, { channels: "pg:frozen", cursor });
  expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([503, "upstream_unavailable"]);
  await frozen.resume();
  await other.resume();
  await eventually(() => other.got().length >= 60);
  expect(other.got().map(nOf)).toEqual(numbers(1, 60));
  expect(frozen.got()).toEqual([]);
  proxy.heal();
  await eventually(() => frozen.got().length >= 60);
  expect(frozen.got().map(nOf)).toEqual(numbers(1, 60));
});
