/**
 * Names of the session store's keys in Redis. All keys of one user, and all of one channel, share a hash tag. `root` begins all
 * names of the deployment. Names of sessions and holders are UUIDs chosen by the gateways.
 */
import { slotTag, slotTagOf } from "../channels/keys.ts";
import type { IdentityKey } from "../protocol/identity-key.ts";
import type { Revocation } from "./contract.ts";

/** Holders and their leases; one hash tag for the fleet. */
export function leaseKeys(root: string): { leases: string; toSweep: string; passes: string; lastSeen: string } {
  const tag = `${root}:{nodes}`;
  return {
    leases: `${tag}:leases`,
    toSweep: `${tag}:to-sweep`,
    passes: `${tag}:passes`,
    lastSeen: `${tag}:last-seen`,
  };
}

export function userKeys(root: string, user: IdentityKey): { sessions: string; revoked: string } {
  const slot = slotTagOf(root, user);
  return { sessions: `${slot}:sessions:${user}`, revoked: `${slot}:revoked:${user}` };
}

export function endedKey(root: string, user: IdentityKey, sessionId: string): string {
  return `${slotTagOf(root, user)}:ended:${sessionId}:${user}`;
}

/** What the names of a slot's session events begin with, and those names. */
export function eventKeys(root: string, slot: number): { prefix: string; profiles: string; events: string } {
  const prefix = `${slotTag(root, slot)}:`;
  return { prefix, profiles: `${prefix}session-profiles`, events: `${prefix}session-events` };
}

/** Identifies a session among the profiles and events of its slot. */
export function eventField(sessionId: string, user: IdentityKey): string {
  return `${sessionId} ${user}`;
}

export function presenceKeys(root: string, channel: string): { sessions: string; users: string } {
  const slot = slotTagOf(root, channel);
  return { sessions: `${slot}:presence:${channel}`, users: `${slot}:present:${channel}` };
}

/** The sessions and memberships of a holder in one slot. */
export function holdingsKey(root: string, slot: number, holder: string): string {
  return `${slotTag(root, slot)}:held:${holder}`;
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
