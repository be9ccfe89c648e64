/**
 * The contract between gateways, the private API and the store of sessions and presence. Both implementations, memory.ts and
 * redis.ts, pass the same suite (test/contract/session-store-suite.ts).
 *
 * A node stores everything as a *holder*: a name with a lease. The node takes a new name whenever it may have missed something.
 * Once the lease expires, or the node abandons the name, a sweep removes everything stored under it: no session and no member
 * outlives its node.
 *
 * A session has a *claim*, a number that grows with each takeover. The newest claim is in force; older ones have no effect.
 *
 * Every implementation MUST
 * - decide about a session in one place, so that only one of two nodes has it;
 * - fail with `broker_unavailable` within a bounded time when the store is out of reach.
 */
import type { IdentityKey, UserIdentity } from "../protocol/identity-key.ts";
import type { SessionEventKind } from "../protocol/session-events.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { PresenceAck } from "../protocol/wire.ts";

/** A session under the claim of one node. */
export interface HeldSession extends UserIdentity {
  sessionId: string;
  claim: number;
}

export interface Claim {
  claim: number;
  /** Unix ms by the store's clock, set by the store only. Revocations since then end the session. */
  checkedAt: number;
}

export interface ClaimRequest extends HeldSession, Claim {
  /**
   * `begin`: a new session. `resume`: takes it over from any node; a session past its grace time is `over`.
   * `announce`: the node repeats that it has the session.
   */
  mode: "begin" | "resume" | "announce";
  holder: string;
  node: string;
  /** Set if services get events of the session. */
  events?: RequestedEvents;
}

export interface RequestedEvents {
  /** JSON text: what the events say of the session. A later claim replaces it. */
  profile: string;
  /** The session begins, and `connected` is due at once. `disconnected` is due in any case, when the session ends. */
  connected: boolean;
}

/** How a session ends on a connection. */
export interface SessionEnding {
  /** Its client may resume it: `disconnected` is due after the grace time, otherwise at once. */
  mayReturn: boolean;
  /** One word, for `disconnected`. */
  reason?: string;
}

/** By channel: when its grants were withdrawn, Unix ms by the store's clock. `*` stands for all channels. */
export type Withdrawals = ReadonlyMap<string, number>;

export type ClaimOutcome =
  /** `tookOver`: another holder lost the session and was notified. */
  | ({ kind: "held"; withdrawn: Withdrawals; tookOver: boolean } & Claim)
  /** The session does not exist, or its grace time is over. An announced session is over once its `disconnected` was taken. */
  | { kind: "over" }
  /** Another node has a newer claim. */
  | { kind: "replaced" }
  /** A revocation since the last check ended the session. */
  | { kind: "revoked" };

/** A session in a channel. */
export interface Membership {
  session: HeldSession;
  channel: string;
  holder: string;
  /** JSON value shown to others. */
  info?: unknown;
  /** Joins and leaves are announced in channels of up to this many sessions; 0: never. */
  announceUpTo: number;
}

export interface SessionRecord {
  sessionId: string;
  node: string;
  /** Unix ms. */
  connectedAt: number;
}

/** What a user can no longer resume with. */
export type Revocation = { kind: "user" } | { kind: "session"; sessionId: string } | { kind: "grant"; channel: string };

export interface SessionStore extends Service {
  /** Unix ms by the store's clock, estimated from renewals of leases and never ahead of it. Dates grants and items. */
  now(): number;
  /** Notifies the previous holder of the session over the user's topic: `replaced`. */
  claim(request: ClaimRequest): Promise<ClaimOutcome>;
  /** Starts the grace time, whichever of its names the node stored the session under. Without effect where the claim is not in force. */
  end(session: HeldSession, holder: string, ending?: SessionEnding): Promise<void>;
  /** Publishes `sync:join` for the user's first session in the channel. */
  enter(membership: Membership): Promise<void>;
  /** As {@link end}. Publishes `sync:leave` for the user's last session in the channel. */
  leave(membership: Membership): Promise<void>;
  /** @returns members, or the number of users where the channel has more than `listUpTo` sessions. */
  presence(channel: string, listUpTo: number): Promise<PresenceAck>;
  sessionsOf(user: IdentityKey): Promise<SessionRecord[]>;
  /** @returns the date of the revocation, Unix ms by the store's clock. */
  revoke(user: IdentityKey, revocation: Revocation): Promise<number>;
  /** @returns false for an unknown holder: the node must take another name. `fresh`: begins a new holder. */
  renewLease(holder: string, options: { fresh: boolean }): Promise<boolean>;
  /** Ends the lease after `inMs`; a sweep then removes what is left. Until then entries are shown, unless `inMs` is 0. */
  abandon(holder: string, options: { inMs: number }): Promise<void>;
  /** Removes the entries of holders whose lease expired. Each holder goes to one caller. @returns the number of holders. */
  sweep(): Promise<number>;
}

/** An event that is due. */
export interface SessionEvent {
  kind: SessionEventKind;
  sessionId: string;
  user: IdentityKey;
  /** Unix ms by the store's clock: when the session began, or when its last connection ended (a killed node's: its last renewal). */
  at: number;
  reason?: string;
  /** {@link RequestedEvents.profile} of the last claim. */
  profile: string;
}

/**
 * Session events, from the moment at which they are due until they are stored elsewhere. A claim or an end records its event in the
 * same step, so that neither is there without the other; a resume in time takes `disconnected` back.
 */
export interface SessionEventStore {
  /**
   * Events that are due, those of one session in order. Other callers get them again after {@link takenMs}, unless they are settled.
   * A session is over once its `disconnected` is taken.
   * @param slots of the users (slotOf); all of them where it is left out
   * @returns `nextMs`: until the next one is due; 0: more are due now; undefined: none is left
   */
  takeEvents(slots?: readonly number[]): Promise<{ events: readonly SessionEvent[]; nextMs: number | undefined }>;
  /** They are stored elsewhere. @param options.last no event follows `connected`, and the profile is not needed any more */
  settleEvents(events: readonly SessionEvent[], options: { last: boolean }): Promise<void>;
}

/** For a caller to store the events that it took. */
export const takenMs = 10_000;
/** How long it is known that a session's `disconnected` was taken: a node that was cut off for longer may announce the session. */
export const overMs = 600_000;
/** Events that one call takes at most. */
export const maxTaken = 500;

/** A session that resumes within this time continues. */
export const graceMs = 30_000;
/** A member stays this long after its connection broke, so that others do not see a quick reconnect. */
export const lingerMs = 5_000;
/** A holder whose lease was not renewed for this long is gone. */
export const leaseMs = 10_000;
/** How long revocations are remembered: the longest validity of resume tokens and grants. */
export const maxResumeMs = 30 * 86_400_000;
/** Most single revocations of one user. Past it, a revocation covers all sessions, or all channels. */
export const maxRevocations = 1_000;
/** In {@link Withdrawals}, the grants of all channels. */
export const everyChannel = "*";
/** In {@link Withdrawals}, the grants of all channels and what the token allows: in place of more channels than are remembered one by one. */
export const allChannels = "**";
/** Among {@link Withdrawals}, no channel: what the connect hook granted to the user before that date counts once it is asked again. */
export const connectHookGrants = "connect-hook";
