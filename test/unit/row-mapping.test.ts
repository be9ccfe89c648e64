/** What a row of a SQL source becomes. */
import { expect, test } from "vitest";
import { mappedColumns, mapRow } from "../../private-api/sources/row-mapping.ts";

const rule = { channel: "account:{account_id}", event: "{object_type}.{action}", data: "payload" };
const values = { account_id: "7", object_type: "contact", action: "updated", payload: '{"id": 12345678901234567890}' };

test("SQL-1: templates are filled with columns, and the data keeps its digits", () => {
  expect(mappedColumns(rule)).toEqual(["account_id", "object_type", "action", "payload"]);
  expect(mapRow(rule, { id: "1", values })).toEqual({
    kind: "publication",
    channel: "account:7",
    event: "contact.updated",
    data: { text: '{"id":12345678901234567890}', bytes: 27 },
  });
});

test.each<[string, object, string]>([
  ["NULL in the channel", { account_id: null }, "channel: a column is NULL"],
  ["a channel that is not allowed", { account_id: "a b" }, 'channel: "account:a b" is not allowed'],
  ["an event that is not allowed", { object_type: "sync:x" }, 'event: "sync:x.updated" is not allowed'],
  ["no data", { payload: null }, "data: payload is NULL"],
  ["data that is not JSON", { payload: "{" }, "data: payload is not JSON"],
  [
    "data that is too large",
    { payload: JSON.stringify("x".repeat(65_536)) },
    "data: payload is larger than 65536 bytes",
  ],
  ["data that is nested too deep", { payload: "[".repeat(200) + "]".repeat(200) }, "data: payload is nested too deep"],
])("SQL-6: a row with %s is skipped", (_, given, reason) => {
  const mapped = mapRow(rule, { id: "1", values: { ...values, ...given } });
  expect(mapped).toMatchObject({ kind: "skipped" });
  expect(mapped.kind === "skipped" && mapped.reason).toContain(reason);
});
