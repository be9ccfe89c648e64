/**
 * The runbook of docs/cut-over.md, command by command: a webhook system that reads `id > pointer` moves to Tidegate and back, with writers
 * at work on a real PostgreSQL, or MariaDB, and two private APIs.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readBothSides } from "../../deploy/compare/both-sides.ts";
import { Comparison } from "../../deploy/compare/comparison.ts";
import { Findings } from "../../deploy/compare/findings.ts";
import { EndpointApi } from "../../deploy/endpoint-api.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { startMariaDb } from "../support/mariadb.ts";
import { type OldWebhooks, oldWebhooksTables, startOldWebhooks } from "../support/old-webhooks.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { shardStates } from "../support/sql-source.ts";
import {
  type Connect,
  freshN,
  insertOf,
  mariaDbSessions,
  postgresSessions,
  type SqlSession,
  startWorkload,
} from "../support/sql-workload.ts";

const databases = [
  {
    ...{ name: "PostgreSQL", driver: "postgres", start: startPostgres, sessions: postgresSessions },
    ...{ schema: "deploy/sql/postgres.sql", early: "SELECT pg_current_xact_id()" },
  },
  {
    ...{ name: "MariaDB", driver: "mysql", start: startMariaDb, sessions: mariaDbSessions },
    ...{ schema: "deploy/sql/mysql.sql", early: "INSERT INTO earlier VALUES ()" },
  },
];

const pointers = { id: "/n", channel: undefined, event: undefined, data: undefined };
/** Of the workload, and one webhook with all of them. */
const accounts = ["1", "2", "3", "4", "*"];

let server: SqlServer;
let redis: RedisServer;
let fleets: Fleet[];
let connect: Connect;
let session: SqlSession;
let customer: HttpService;
let tee: Spawned;
let old: OldWebhooks;
let folder: string;
let sent: string;
let runbook: string[];
/** By endpoint: the account of its webhook. */
const accountOf = new Map<string, string>();

function apiUrl(): string {
  return fleets[0]?.apiUrl ?? "";
}

/** Takes the next command of the page that begins with this. */
function nextCommand(beginning: string, variables: Record<string, string>): Spawned {
  const at = runbook.findIndex((line) => line.startsWith(`npm run ${beginning}`));
  const [line] = at === -1 ? [] : runbook.splice(at, 1);
  if (line === undefined) throw new Error(`the runbook has no further command npm run ${beginning}`);
  const given: Record<string, string> = { $API: apiUrl(), "sent.ndjson": sent, "latency.svg": `${folder}/l.svg` };
  const replaced = Object.entries({ ...given, ...variables }).reduce(
    (text, [name, value]) => text.replaceAll(name, value),
    line,
  );
  const [, script = "", args = ""] = /^npm run (\S+) -- (.*)$/.exec(replaced) ?? [];
  return spawnProcess(process.execPath, [`deploy/${script}.ts`, ...args.split(" ")], {
    env: { TIDEGATE_API_TOKEN: tokens.service },
  });
}

async function run(beginning: string, variables: Record<string, string> = {}, code = 0): Promise<string> {
  const command = nextCommand(beginning, variables);
  expect(await command.exited, command.output()).toBe(code);
  return command.output();
}

/** What is printed as JSON, line by line. */
function items<Item>(output: string): Item[] {
  return output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Item);
}

/** The n of the rows that only the ledger of the endpoint has, once it has all that was sent. @param until.onlyBeforeLast those before the last that was sent, in its channel */
async function lostByOld(id: string, options: { from?: number; onlyBeforeLast?: boolean }): Promise<number[]> {
  let lost: number[] | undefined;
  await eventually(async () => (lost = await lostOrUnpublished(id, options)) !== undefined);
  return lost ?? [];
}

/** Undefined while a row that was sent is not published. */
async function lostOrUnpublished(
  id: string,
  { from = -Infinity, onlyBeforeLast = false }: { from?: number; onlyBeforeLast?: boolean },
): Promise<number[] | undefined> {
  const comparison = new Comparison({ idPointer: pointers.id });
  try {
    const common = { api: new EndpointApi(apiUrl(), tokens.service), endpoint: id, reference: sent };
    await readBothSides(comparison, { ...common, path: `/${id}`, pointers });
    const findings = new Findings(comparison, { from, to: Infinity });
    const last = new Map(comparison.lastChanges().map(({ channel, offset }) => [channel, offset]));
    if (findings.counts.missing > 0) return undefined;
    expect(findings.counts, id).toMatchObject({ duplicated: 0, changed: 0, unknown: 0 });
    return [...findings.differences()].flatMap(({ kind, channel = "", offset = 0, id: n }) =>
      kind === "extra" && (!onlyBeforeLast || offset < (last.get(channel) ?? 0)) ? [Number(n)] : [],
    );
  } finally {
    comparison.close();
  }
}

/** By endpoint, the n of the rows that the customer got of one system. */
function received(isOfTidegate: boolean): Map<string, number[]> {
  const found = new Map([...accountOf.keys()].map((id): [string, number[]] => [id, []]));
  for (const { path, headers, body } of customer.requests) {
    if ((headers["webhook-id"] !== undefined) !== isOfTidegate) continue;
    found.get(path.slice(1))?.push((JSON.parse(body) as { data: { n: number } }).data.n);
  }
  return found;
}

async function committed(account: string): Promise<number[]> {
  const rows = await session.query(
    `SELECT object_id FROM transactions WHERE account_id = '${account}' OR '${account}' = '*'`,
  );
  return rows.map((row) => Number(row["object_id"]));
}

/** Resolves once the old system has ended what it was sending for the webhook. */
async function stopOld(id: string): Promise<void> {
  await session.query(`UPDATE webhooks SET active = 0 WHERE id = '${id}'`);
}

async function oldHasCaughtUp(): Promise<void> {
  await eventually(async () => {
    const behind = await session.query(`SELECT 1 FROM webhooks w WHERE active = 1 AND pointer <
      (SELECT coalesce(max(id), 0) FROM transactions t WHERE account_id = w.account OR w.account = '*')`);
    return behind.length === 0;
  });
}

async function everythingIsPublished(): Promise<void> {
  const all = await committed("*");
  await eventually(async () => ((await shardStates(apiUrl())).get("crm/CRM_URL")?.published ?? 0) >= all.length);
}

/** A row that becomes visible after the old system has passed it. */
async function commitLate(account: string): Promise<void> {
  const late = await connect();
  await late.query("BEGIN");
  await late.query(insertOf(account, freshN()));
  const n = freshN();
  await session.query(insertOf(account, n));
  await eventually(async () => {
    const behind = await session.query(`SELECT 1 FROM webhooks WHERE account IN ('${account}', '*') AND pointer <
      (SELECT id FROM transactions WHERE object_id = '${n}')`);
    return behind.length === 0;
  });
  await late.query("COMMIT");
  await late.end();
}

function sorted(numbers: Iterable<number>): number[] {
  return [...numbers].toSorted((one, other) => one - other);
}

describe.each(databases)("on $name", ({ driver, start, sessions, schema, early }) => {
  beforeAll(async () => {
    accountOf.clear();
    const page = await readFile("docs/cut-over.md", "utf8");
    runbook = page.split("\n").filter((line) => line.startsWith("npm run "));
    folder = await mkdtemp(join(tmpdir(), "tidegate-cut-over-"));
    sent = join(folder, "sent.ndjson");
    [server, redis, customer] = await Promise.all([start(), startRedis(), startService()]);
    connect = sessions(server.url);
    session = await connect();
    await session.query(await readFile(schema, "utf8"));
    await session.query(oldWebhooksTables);
    if (driver === "mysql") await session.query("CREATE TABLE earlier (id bigint AUTO_INCREMENT PRIMARY KEY)");
    const crm = { driver, url: "env:CRM_URL", table: "transactions", data: "payload" };
    const rules = {
      namespaces: { account: { changes: true, historySize: 0 } },
      sqlSources: { crm: { ...crm, channel: "account:{account_id}", event: "{object_type}.{action}" } },
    };
    const common = {
      ...{ gateways: 0, target: { kind: "standalone" as const, url: redis.url } },
      environment: { CRM_URL: server.url, ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
    };
    fleets = [await startFleet({ ...common, rules }), await startFleet(common)];
    await eventually(async () => (await shardStates(apiUrl())).get("crm/CRM_URL")?.state === "live");
  });
  afterAll(async () => {
    await old.stop();
    tee.kill("SIGTERM");
    await tee.exited;
    for (const fleet of fleets.toReversed()) await fleet.stop();
    await session.end();
    await Promise.all([server.stop(), redis.stop(), customer.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  test("CUT-8: the runbook moves a system that reads id > pointer: no change goes to both or to neither", async () => {
    // 1 to 3: shadows, and the tee between the old system and the customer.
    for (const account of accounts) {
      const created = await fleets[1]?.api("POST", "/v1/endpoints", {
        ...{ url: `${customer.url}/new`, channels: [`account:${account}`], mode: "shadow" },
      });
      const id = String(created?.body["id"]);
      accountOf.set(id, account);
      await fleets[1]?.api("PATCH", `/v1/endpoints/${id}`, { url: `${customer.url}/${id}` });
    }
    const ids = [...accountOf.keys()];
    tee = nextCommand("tee", { "9100": "0", "https://customer.example/hooks": customer.url });
    const teeUrl = (await tee.printed("tee listening on ")).replace(/^.*(?=http)/, "");
    for (const [id, account] of accountOf) {
      await session.query(`INSERT INTO webhooks (id, account, url) VALUES ('${id}', '${account}', '${teeUrl}/${id}')`);
    }
    old = startOldWebhooks(connect, ids);
    const workload = startWorkload({ connect, writers: 4, seed: "cut-over", early });
    await eventually(() => workload.written.size > 60);
    await commitLate("1");
    await workload.stop();
    await oldHasCaughtUp();
    await everythingIsPublished();

    // 4: compare names exactly the rows that the old system has lost.
    const [first = ""] = ids;
    const rows = new Set(await committed("1"));
    for (const n of received(false).get(first) ?? []) rows.delete(n);
    expect(rows.size, "rows that the old system has lost").toBeGreaterThan(0);
    expect(sorted(await lostByOld(first, {}))).toEqual(sorted(rows));
    const report = await run("compare", { $ID: first }, 1);
    expect(report).toMatch(new RegExp(`^extra +${rows.size} `, "m"));
    expect(items(await run("endpoints -- ledger", { $ID: first }))).toHaveLength((await committed("1")).length);

    // 5: half of the endpoints, then all, with writers at work.
    const moving = startWorkload({ connect, writers: 4, seed: "moving", early, pauseMs: 300 });
    const lost = new Map<string, number[]>();
    const goLive = runbook.find((line) => line.includes("go-live"));
    const half = await run("endpoints -- list");
    for (const [percent, shadows] of [
      ["50", half === "" ? [] : items<{ id: string }>(half).map(({ id }) => id)],
      ["100", ids],
    ] as const) {
      const next = shadows.filter((id) => !lost.has(id));
      for (const id of next) {
        await stopOld(id);
        lost.set(id, await lostByOld(id, { onlyBeforeLast: true }));
      }
      if (percent === "100") runbook.push(goLive ?? "");
      await run("endpoints -- go-live --api $API --percent", { "50": percent });
      for (const id of next) {
        expect((await fleets[1]?.api("GET", `/v1/endpoints/${id}`))?.body["state"]).toBe("live");
      }
    }
    expect([...lost.keys()].toSorted()).toEqual(ids.toSorted());
    const before = moving.written.size;
    await eventually(() => moving.written.size > before + 15);

    // 6: all but the first ten percent go back.
    const stoppedAt = Date.now();
    const stopped = items<{ id: string; state: string; after: string }>(await run("endpoints -- shadow", {}));
    const back = stopped.map(({ id }) => id);
    expect(back.length, "endpoints beyond ten percent").toBeGreaterThan(0);
    const [{ id: again, after } = { id: "", after: "" }] = stopped;
    const isOld = new Set(back.slice(1));
    for (const id of isOld) {
      const { text } = (await fleets[0]?.api("GET", `/v1/endpoints/${id}/ledger?sentSeconds=600`)) ?? { text: "" };
      await continueOld(id, text);
    }
    const sentLast = await run("endpoints -- ledger", { $ID: again });
    expect(sorted(nsOf(sentLast))).toEqual(sorted(received(true).get(again) ?? []));
    // One of them goes live again.
    await run("endpoints -- go-live", { $ID: again, $AFTER: after });
    const until = moving.written.size;
    await eventually(() => moving.written.size > until + 15);
    await moving.stop();
    await oldHasCaughtUp();
    await everythingIsPublished();

    await eventually(async () => {
      const delivered = [received(false), received(true)];
      for (const [id, account] of accountOf) {
        if (isOld.has(id)) continue;
        const count = delivered.reduce((sum, of) => sum + (of.get(id)?.length ?? 0), 0);
        if (count + (lost.get(id)?.length ?? 0) < (await committed(account)).length) return false;
      }
      return true;
    });
    const [byOld, byTidegate] = [received(false), received(true)];
    for (const [id, account] of accountOf) {
      const both = [...(byOld.get(id) ?? []), ...(byTidegate.get(id) ?? [])];
      expect(both.length, `${id}: sent twice`).toBe(new Set(both).size);
      const neither = new Set(await committed(account));
      for (const n of both) neither.delete(n);
      const named = [...(lost.get(id) ?? []), ...(isOld.has(id) ? await lostByOld(id, { from: stoppedAt }) : [])];
      expect(sorted(neither), `${id}: sent by neither`).toEqual(sorted(named));
    }
    expect(runbook, "commands of the page that no test runs").toEqual([]);
  });
});

function nsOf(ledger: string): number[] {
  if (ledger === "") return [];
  return items<{ data: { n: number } }>(ledger).map(({ data }) => data.n);
}

/** From its own pointer on, but for what Tidegate has sent. */
async function continueOld(id: string, sentLast: string): Promise<void> {
  const sent = nsOf(sentLast).map((n) => `('${id}', '${n}')`);
  if (sent.length > 0) await session.query(`INSERT INTO left_out (webhook, object_id) VALUES ${sent.join(", ")}`);
  await session.query(`UPDATE webhooks SET active = 1 WHERE id = '${id}'`);
}
