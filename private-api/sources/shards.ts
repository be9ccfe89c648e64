/** The shards of the rules. Pure. */
import type { Rules } from "../../shared/rules/rules.ts";
import { shardVariables, type SqlSourceRule } from "../../shared/rules/sql-sources.ts";

export interface Shard {
  /** `source/VARIABLE`: the order of a list of shards means nothing. */
  readonly name: string;
  readonly source: string;
  /** Holds the URL. */
  readonly variable: string;
  readonly rule: SqlSourceRule;
}

/** By name. */
export function shardsOf(rules: Pick<Rules, "sqlSources">): ReadonlyMap<string, Shard> {
  const shards = [...rules.sqlSources].flatMap(([source, rule]) =>
    shardVariables(rule).map((variable): Shard => ({ name: `${source}/${variable}`, source, variable, rule })),
  );
  return new Map(shards.map((shard) => [shard.name, shard]));
}

/** Whether the same reader can continue. Which other shards the source has means nothing to it, and may be a list of 2,000. */
export function isSameShard(one: Shard, other: Shard): boolean {
  return one.rule === other.rule || readingOf(one) === readingOf(other);
}

function readingOf({ rule }: Shard): string {
  return JSON.stringify({ ...rule, url: undefined });
}
