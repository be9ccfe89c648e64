import type { GatewayContext } from "./context.ts";

/** The node has rules, or knows that there are none: a private API stores the file that it is given before it takes streams. */
export function knowsRules({ currentRules, relay }: Pick<GatewayContext, "currentRules" | "relay">): boolean {
  if (currentRules.rules.version > 0) return true;
  return currentRules.isRead && currentRules.findings.length === 0 && relay.hasOpened;
}
