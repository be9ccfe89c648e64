/**
 * The contract between gateways, the private API and the store of who is connected, where, and in which channels. Two
 * implementations, memory-store.ts and redis-store.ts, pass the same suite (test/contract/session-store-suite.ts).
 *
 * What a node stores it stores as a *holder*: a name that it takes anew whenever it may have missed something. A holder
 * has a lease. Once that has run out, or the node gives the name up, everything stored under it is swept: no session
 * and no member outlives its node.
 *
 * A session has a *claim*, a number that grows each time it is taken over. The newest claim is in force: whatever an
 * older one still says is without effect.
 *
 * Every implementation MUST
 * - decide about one session at one place, so that of two nodes one has it;
 * - fail with `broker_unavailable` within a bounded time when the store cannot be asked.
 */
import type { IdentityKey, UserIdentity } from "../protocol/identity-key.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { PresenceAck } from "../protocol/wire.ts";

/** A session as one node holds it. */
export interface HeldSession extends UserIdentity {
  sessionId: string;
  claim: number;
}

/** How somebody holds a session. */
export interface Claim {
  claim: number;
  /** Unix ms by the store's clock: what was revoked since then ends it. Only the store moves it on. */
  checkedAt: number;
}

export interface ClaimRequest extends HeldSession, Claim {
  /**
   * `begin`: a new session. `resume`: from wherever it was; ended longer than the grace time ago, it is `over`.
   * `announce`: this node has it, and tells again.
   */
  mode: "begin" | "resume" | "announce";
  holder: string;
  node: string;
}

/** Channels whose grants were withdrawn → when, Unix ms by the store's clock. `*`: all of them. */
export type Withdrawals = ReadonlyMap<string, number>;

export type ClaimOutcome =
  /** `tookOver`: somebody had it, and is told. */
  | ({ kind: "held"; withdrawn: Withdrawals; tookOver: boolean } & Claim)
  /** There is no such session any more. */
  | { kind: "over" }
  /** Another node has a newer claim. */
  | { kind: "replaced" }
  /** Ended for good after it was checked last. */
  | { kind: "revoked" };

/** A session in a channel. */
export interface Membership {
  session: HeldSession;
  channel: string;
  holder: string;
  /** JSON value that others see. */
  info?: unknown;
  /** Joins and leaves are told in channels of up to so many sessions; 0: never. */
  tellUpTo: number;
}

export interface SessionRecord {
  sessionId: string;
  node: string;
  /** Unix ms. */
  connectedAt: number;
}

/** What a user may not resume with any more. */
export type Revocation = { kind: "user" } | { kind: "session"; sessionId: string } | { kind: "grant"; channel: string };

export interface SessionStore extends Service {
  /** Unix ms, by the store's clock as last heard: never ahead of it. Grants are dated by it. */
  now(): number;
  /** A claim that another holder had is told over the user's topic: `replaced`. */
  claim(request: ClaimRequest): Promise<ClaimOutcome>;
  /** From now on the grace time runs. Without effect where the claim is not in force. */
  end(session: HeldSession, holder: string): Promise<void>;
  /** `sync:join` is told where this is the user's first session in the channel. */
  enter(membership: Membership): Promise<void>;
  /** `sync:leave` is told where this was the user's last. */
  leave(membership: Membership): Promise<void>;
  /** Members, or, where more than `listUpTo` sessions are in the channel, how many users. */
  presence(channel: string, listUpTo: number): Promise<PresenceAck>;
  sessionsOf(user: IdentityKey): Promise<SessionRecord[]>;
  /** @returns its date: Unix ms by the store's clock. */
  revoke(user: IdentityKey, revocation: Revocation): Promise<number>;
  /** @returns false where the holder is not known (any more): it must take another name. `fresh`: a new one begins. */
  renewLease(holder: string, options: { fresh: boolean }): Promise<boolean>;
  /** The holder is given up: what is left under it in `inMs` is swept; until then, 0 aside, it is shown. */
  abandon(holder: string, options: { inMs: number }): Promise<void>;
  /** Removes what holders left whose lease has run out. One caller gets each. @returns how many. */
  sweep(): Promise<number>;
}

/** A session that returns within this is the same. */
export const graceMs = 30_000;
/** A member whose connection broke stays for so long: a quick return is seen by nobody. */
export const lingerMs = 5_000;
/** Without a renewal for so long a node is gone. */
export const leaseMs = 10_000;
/** Revocations are remembered for so long; no resume token and no grant is valid for longer. */
export const maxResumeMs = 30 * 86_400_000;
/** Revocations of one user that are remembered one by one; past it all of a kind are taken away at once. */
export const maxRevocations = 1_000;
/** Stands for all channels among {@link Withdrawals}. */
export const everyChannel = "*";
