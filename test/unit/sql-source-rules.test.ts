/** What the rules document refuses about SQL sources. */
import { expect, test } from "vitest";
import { checkRules } from "../../shared/rules/document.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";

const valid = {
  driver: "postgres",
  url: "env:CRM_URL",
  table: "transactions",
  channel: "account:{account_id}",
  event: "{object_type}.{action}",
  data: "payload",
};

function findings(source: object): readonly string[] {
  try {
    checkRules({ sqlSources: { crm: source } });
    return [];
  } catch (error) {
    if (error instanceof InvalidDocument) return error.findings;
    throw error;
  }
}

test.each<[string, object]>([
  ["the example of the specification", { ...valid, id: "id", notify: "tidegate_crm" }],
  ["shards", { ...valid, url: ["env:CRM_1", "env:CRM_2"], start: "beginning" }],
  ["a schema, and a table without the column", { ...valid, table: "app.log", withoutXid: "accept" }],
  ["MySQL", { ...valid, driver: "mysql" }],
])("SQL-1: a SQL source may be %s", (_, source) => {
  expect(findings(source)).toEqual([]);
});

test.each<[string, object, string]>([
  ["a URL in the document", { url: "postgres://u:secret@h/d" }, "sqlSources.crm.url: must name a variable"],
  ["no shard", { url: [] }, "sqlSources.crm.url: names no shard"],
  ["a variable twice", { url: ["env:A", "env:A"] }, "sqlSources.crm.url: names a variable twice"],
  ["no channel", { channel: "{account_id}" }, "sqlSources.crm.channel: can never be a channel"],
  ["a placeholder that is no column", { channel: "a:{b c}" }, "sqlSources.crm.channel: {b c} is no name of a column"],
  ["a reserved event", { event: "sync:{action}" }, "sqlSources.crm.event: can never be an event"],
  ["another driver", { driver: "oracle" }, "sqlSources.crm.driver: "],
  [
    "a column of PostgreSQL with MySQL",
    { driver: "mysql", notify: "n" },
    "sqlSources.crm.notify: only with driver: postgres",
  ],
  ["a column that it goes without", { xid: "x", withoutXid: "accept" }, "sqlSources.crm.withoutXid: not with xid"],
])("SQL-1: a SQL source is refused with %s", (_, given, finding) => {
  const found = findings({ ...valid, ...given });
  expect(found.join("\n")).toContain(finding);
  expect(found.join("\n")).not.toContain("secret");
});
