/** Calls for rows of one shard: whose rows they may be, and how many calls wait. */
import { expect, test } from "vitest";
import { rowKey } from "../../private-api/changes/table-rows.ts";
import type { Database } from "../../private-api/sources/contract.ts";
import { SourceTables } from "../../private-api/sources/source-tables.ts";
import { Rules } from "../../shared/rules/rules.ts";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";

const row = { shard: "crm/URL", id: "7" };
const progress = JSON.stringify({ identity: "db", timeline: "1", cursor: "", published: 0, skipped: 0 });

/** @param database where it differs from what the shard was read from */
function tablesOf(database: Partial<Database>, failover: "refuse" | "continue" = "refuse"): SourceTables {
  const crm: SqlSourceRule = {
    ...{ driver: "postgres", url: "env:URL", table: "log", failover },
    ...{ channel: "account:{account}", event: "{kind}", data: "d" },
  };
  const opened: Database = {
    identity: "db",
    timeline: "1",
    begin: async () => "",
    readNew: async (next) => ({ next }),
    readPage: async () => ({ rows: [], isLast: true }),
    readRows: async (ids) => ids.map((id) => ({ id, values: { account: "a", kind: "added", d: id } })),
    onNotice: () => undefined,
    close: () => undefined,
    ...database,
  };
  return new SourceTables({
    rules: { rules: new Rules(1, { sqlSources: { crm } }) },
    environment: { URL: "postgres://db" },
    store: { read: async () => ({ progress, isRead: true }) },
    open: async () => opened,
    logger: quietLogger,
  });
}

test("SQL-13: rows are read again with the channel and event that they have now", async () => {
  const found = await tablesOf({}).read([row]);
  expect(found.get(rowKey(row))).toEqual({ channel: "account:a", event: "added", data: "7" });
});

test("SQL-13: after a restore or a failover rows are read again only where the rule says to continue", async () => {
  await expect(tablesOf({ timeline: "2" }).read([row])).rejects.toThrow("was restored or has failed over");
  expect((await tablesOf({ timeline: "2" }, "continue").read([row])).size).toBe(1);
  await expect(tablesOf({ identity: "other" }, "continue").read([row])).rejects.toThrow("another database or table");
});

test("SQL-13: a bounded number of calls waits for a shard, and all of them end where the process stops", async () => {
  const { promise: never } = Promise.withResolvers<never>();
  let closed = 0;
  const tables = tablesOf({ readRows: async () => never, close: () => void closed++ });
  const calls = Array.from({ length: 32 }, async () => tables.read([row]));
  const outcomes = Promise.allSettled(calls);
  await expect(tables.read([row])).rejects.toThrow("32 calls wait for it already");
  await tables.stop();
  const messages = (await outcomes).map((outcome) => String(outcome.status === "rejected" && outcome.reason));
  expect(messages).toEqual(Array.from({ length: 32 }, () => expect.stringContaining("the process stops")));
  await eventually(() => closed > 0);
});
