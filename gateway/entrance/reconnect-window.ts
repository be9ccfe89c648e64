import type { ReconnectPolicy } from "../../shared/protocol/wire.ts";

/** Part of the other nodes' admissions that is for reconnecting clients: new clients connect, too. */
export const partForReconnects = 0.7;
const minWindowMs = 1_000;
const maxWindowMs = 600_000;
/** A smaller change of the window is not worth a notice to every client. */
const materialPart = 0.25;

/**
 * How the clients of a node spread their reconnects when the node is lost.
 * @param admissionsPerSecond of the remaining nodes.
 */
export function reconnectPolicy(sessions: number, admissionsPerSecond: number): ReconnectPolicy {
  const windowMs = (sessions * 1_000) / (partForReconnects * admissionsPerSecond);
  return { minDelayMs: 0, windowMs: Math.round(Math.min(maxWindowMs, Math.max(minWindowMs, windowMs))) };
}

export function differsMaterially(known: ReconnectPolicy, policy: ReconnectPolicy): boolean {
  return Math.abs(policy.windowMs - known.windowMs) > known.windowMs * materialPart;
}
