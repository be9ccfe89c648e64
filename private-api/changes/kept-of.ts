/** The retention of a publication by its namespace: in the history of its channel, and in the change log. */
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { PublishRequest } from "../../shared/channels/contract.ts";
import type { Rules } from "../../shared/rules/rules.ts";

export function keptOf(
  channel: string,
  dataBytes: number,
  { rules, changeBudget }: { rules: Rules; changeBudget: Pick<ChangeBudget, "retention"> },
): Pick<PublishRequest, "retention" | "changes"> {
  const retention = rules.namespace(channel);
  return { retention, ...(retention.changes && { changes: changeBudget.retention(channel, dataBytes) }) };
}
