import type { ReconnectPolicy } from "../../shared/protocol/wire.ts";

/** Of what the others let in, the part that is meant for those who come back: new clients come, too. */
export const partForReturns = 0.7;
const minWindowMs = 1_000;
const maxWindowMs = 600_000;
/** A policy that is off by less is not worth telling everybody. */
const material = 0.25;

/**
 * How the clients of a node spread their return when it is gone.
 * @param admissionsPerSecond of those who are left then.
 */
export function reconnectPolicy(sessions: number, admissionsPerSecond: number): ReconnectPolicy {
  const windowMs = (sessions * 1_000) / (partForReturns * admissionsPerSecond);
  return { minDelayMs: 0, windowMs: Math.round(Math.min(maxWindowMs, Math.max(minWindowMs, windowMs))) };
}

export function differsMaterially(told: ReconnectPolicy, policy: ReconnectPolicy): boolean {
  return Math.abs(policy.windowMs - told.windowMs) > told.windowMs * material;
}
