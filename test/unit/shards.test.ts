/** Shards of SQL sources where the rules change. */
import { expect, onTestFinished, test, vi } from "vitest";
import { isSameShard, type Shard, shardsOf } from "../../private-api/sources/shards.ts";
import { checkRules } from "../../shared/rules/document.ts";
import { Rules } from "../../shared/rules/rules.ts";
import { maxShards } from "../../shared/rules/sql-sources.ts";

/** The shards by name, of a newly parsed document. */
function shardsIn(variables: readonly string[], more: object = {}): ReadonlyMap<string, Shard> {
  const crm = {
    ...{ driver: "postgres", table: "log", channel: "account:{account}", event: "{kind}", data: "d" },
    ...{ url: variables.map((name) => `env:${name}`), ...more },
  };
  return shardsOf(new Rules(1, checkRules({ sqlSources: { crm } })));
}

/** Of the shards of both. */
function changedIn(before: ReadonlyMap<string, Shard>, after: ReadonlyMap<string, Shard>): string[] {
  return [...before].flatMap(([name, shard]) => {
    const next = after.get(name);
    return next && !isSameShard(shard, next) ? [name] : [];
  });
}

test("SQL-4: shards of a changed rule are read anew, and none where its list of shards grows or is sorted", () => {
  const before = shardsIn(["ONE", "TWO"]);
  expect(changedIn(before, shardsIn(["ONE", "TWO"]))).toEqual([]);
  expect(changedIn(before, shardsIn(["TWO", "THREE", "ONE"]))).toEqual([]);
  expect(changedIn(before, shardsIn(["ONE", "TWO"], { table: "other" }))).toEqual(["crm/ONE", "crm/TWO"]);
});

test("BND-1: new rules write the list of 2,000 shards out for none of them", () => {
  const variables = Array.from({ length: maxShards }, (_, n) => `CRM_SHARD_${n}_URL`);
  const [before, after] = [shardsIn(variables), shardsIn(variables)];
  const stringify = vi.spyOn(JSON, "stringify");
  onTestFinished(() => stringify.mockRestore());
  expect(changedIn(before, after)).toEqual([]);
  const written = stringify.mock.results.reduce((sum, { value }) => sum + String(value).length, 0);
  expect(written).toBeLessThan(maxShards * 1_000);
});
