/** The bridges of the rules. Pure. */
import type { BridgeRule } from "../../shared/rules/bridges.ts";
import type { Rules } from "../../shared/rules/rules.ts";

export interface BridgeItem {
  readonly name: string;
  readonly rule: BridgeRule;
}

/** The name of its lease and its progress in the store. No shard of a SQL source has such a name. */
export function storedName(bridge: string): string {
  return `bridge:${bridge}`;
}

/** By {@link storedName}. */
export function bridgesOf(rules: Pick<Rules, "bridges">): ReadonlyMap<string, BridgeItem> {
  return new Map([...rules.bridges].map(([name, rule]) => [storedName(name), { name, rule }]));
}

/** Whether the session can continue. */
export function isSameBridge(one: BridgeItem, other: BridgeItem): boolean {
  return one.rule === other.rule || JSON.stringify(one.rule) === JSON.stringify(other.rule);
}
