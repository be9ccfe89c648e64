/**
 * Names of the session store's keys in Redis. Everything of a user, and everything of a channel, shares its hash tag.
 * Sessions and holders are named by UUIDs, which the gateways choose.
 */
import { slotTag, slotTagOf } from "../channels/redis-keys.ts";
import type { IdentityKey } from "../identity-key.ts";
import type { Revocation } from "./store.ts";

/** Holders and their leases, in one place. */
export const leaseKeys = {
  leases: "tidegate:{nodes}:leases",
  toSweep: "tidegate:{nodes}:to-sweep",
  passes: "tidegate:{nodes}:passes",
} as const;

export function userKeys(user: IdentityKey): { sessions: string; revoked: string } {
  const slot = slotTagOf(user);
  return { sessions: `${slot}:sessions:${user}`, revoked: `${slot}:revoked:${user}` };
}

export function endedKey(user: IdentityKey, sessionId: string): string {
  return `${slotTagOf(user)}:ended:${sessionId}:${user}`;
}

export function presenceKeys(channel: string): { sessions: string; users: string } {
  const slot = slotTagOf(channel);
  return { sessions: `${slot}:presence:${channel}`, users: `${slot}:present:${channel}` };
}

/** What a holder has in one slot. */
export function holdingsKey(slot: number, holder: string): string {
  return `${slotTag(slot)}:held:${holder}`;
}

/** A member of {@link holdingsKey}. */
export type Holding =
  | { kind: "session"; sessionId: string; user: IdentityKey }
  | { kind: "membership"; sessionId: string; channel: string; user: IdentityKey };

export function formatHolding(holding: Holding): string {
  const { kind, sessionId, user } = holding;
  return kind === "session" ? `session ${sessionId} ${user}` : `membership ${sessionId} ${holding.channel} ${user}`;
}

export function parseHolding(text: string): Holding | undefined {
  const [, sessionId, user] = /^session (\S+) (.+)$/s.exec(text) ?? [];
  if (sessionId !== undefined && user !== undefined) {
    return { kind: "session", sessionId, user: user as IdentityKey };
  }
  const [, memberId, channel, member] = /^membership (\S+) (\S+) (.+)$/s.exec(text) ?? [];
  if (memberId === undefined || channel === undefined || member === undefined) return undefined;
  return { kind: "membership", sessionId: memberId, channel, user: member as IdentityKey };
}

/** A field of the hash of a user's revocations. */
export function revocationName(revocation: Revocation): string {
  switch (revocation.kind) {
    case "user":
      return "user";
    case "session":
      return `session ${revocation.sessionId}`;
    case "grant":
      return `grant ${revocation.channel}`;
  }
}
