import { namespaceOf } from "../../shared/protocol/grammar.ts";
import type { Rules } from "../../shared/rules/rules.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";

/**
 * A namespace that the rules do not list has the options of `default`: most often it is misspelt. Each such publication is counted, unless it is
 * refused.
 * @returns why `strictNamespaces` refuses it
 */
export function namespaceRefusal(
  channel: string,
  { rules, metrics }: { rules: Rules; metrics: Pick<PrivateApiMetrics, "unlistedNamespaces"> },
): string | undefined {
  if (rules.lists(channel)) return undefined;
  if (rules.document.strictNamespaces === true) {
    return `channel: the rules list no namespace "${namespaceOf(channel)}" (strictNamespaces)`;
  }
  metrics.unlistedNamespaces.inc();
  return undefined;
}
