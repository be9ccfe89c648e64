import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { ChannelBroker } from "../channels/contract.ts";
import type { PresenceAck } from "../protocol/wire.ts";
import { type IdentityKey, identityKey } from "../protocol/identity-key.ts";
import { sessionEventKinds } from "../protocol/session-events.ts";
import { type EventfulSession, MemorySessionEvents } from "./memory-events.ts";
import { type Member, memberOf, membersByUser } from "./members.ts";
import type * as contract from "./contract.ts";
import { allChannels, graceMs, everyChannel, maxResumeMs, maxRevocations, overMs } from "./contract.ts";

interface StoredSession extends EventfulSession {
  claim: number;
  holder: string;
  /** Unix ms; undefined while the session is connected. */
  endedAt: number | undefined;
  reason: string | undefined;
}

interface Revoked {
  /** Unix ms; 0: not revoked. */
  user: number;
  sessions: Map<string, number>;
  grants: Map<string, number>;
  until: number;
}

interface Entry {
  user: IdentityKey;
  member: Member;
  claim: number;
  announceUpTo: number;
}

const tidyIntervalMs = 10_000;

/** Sessions and presence of a single process, whose lease never expires. */
export class MemorySessionStore implements contract.SessionStore, contract.SessionEventStore {
  readonly #broker: ChannelBroker;
  /** By {@link sessionKey}. */
  readonly #sessions = new Map<string, StoredSession>();
  readonly #events = new MemorySessionEvents(this.#sessions);
  readonly #revoked = new Map<IdentityKey, Revoked>();
  /** Channel → session → member. */
  readonly #present = new Map<string, Map<string, Entry>>();
  readonly #errors: ContainedErrors;
  #tidier: NodeJS.Timeout | undefined;

  /** @param broker delivers joins, leaves and replacements. */
  constructor(broker: ChannelBroker, errors: ContainedErrors) {
    this.#broker = broker;
    this.#errors = errors;
  }

  async start(): Promise<void> {
    this.#tidier = this.#errors.every(tidyIntervalMs, () => this.#tidy()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#tidier);
  }

  now(): number {
    return Date.now();
  }

  async claim(request: contract.ClaimRequest): Promise<contract.ClaimOutcome> {
    const { mode, sessionId, claim, checkedAt, holder, node, events } = request;
    const user = identityKey(request);
    const now = Date.now();
    const revoked = this.#revoked.get(user);
    const revokedAt = Math.max(revoked?.user ?? 0, revoked?.sessions.get(sessionId) ?? 0);
    if (mode !== "begin" && revokedAt >= checkedAt) return { kind: "revoked" };
    const key = sessionKey(request);
    const stored = this.#sessions.get(key);
    const known = stored && isKnown(stored, now) ? stored : undefined;
    if (mode === "resume" && !known) return { kind: "over" };
    const isOver = stored?.isOver || (!known && this.#events.has("disconnected", key));
    if (mode === "announce" && isOver) return { kind: "over" };
    if (mode === "announce" && known && known.claim > claim) return { kind: "replaced" };
    const held = mode === "announce" ? claim : Math.max(now, claim, (known?.claim ?? 0) + 1);
    const connectedAt = known?.connectedAt ?? now;
    const profile = events?.profile ?? known?.profile;
    const record = { sessionId, user, node, connectedAt, claim: held, holder, profile };
    this.#sessions.set(key, { ...record, endedAt: undefined, isOver: false, reason: undefined });
    this.#events.cancel("disconnected", key);
    if (events?.connected) this.#events.expect("connected", key, now);
    const tookOver = known !== undefined && known.endedAt === undefined && known.claim < held;
    if (tookOver) {
      await this.#broker.sendToUser(user, { kind: "replaced", sessionId, claim: held });
    }
    const withdrawn = new Map(revoked?.grants);
    if (revoked?.user) withdrawn.set(everyChannel, Math.max(revoked.user, withdrawn.get(everyChannel) ?? 0));
    return { kind: "held", claim: held, checkedAt: Math.max(now, revokedAt + 1), withdrawn, tookOver };
  }

  async end(
    held: contract.HeldSession,
    _holder: string,
    ending: contract.SessionEnding = { mayReturn: true },
  ): Promise<void> {
    const key = sessionKey(held);
    const session = this.#sessions.get(key);
    if (session?.claim !== held.claim || session.endedAt !== undefined) return;
    session.endedAt = Date.now();
    session.reason = ending.reason;
    if (session.profile === undefined) return;
    this.#events.expect("disconnected", key, session.endedAt + (ending.mayReturn ? graceMs : 0));
  }

  /** Of all slots. */
  async takeEvents(): Promise<{ events: contract.SessionEvent[]; nextMs: number | undefined }> {
    return this.#events.take();
  }

  async settleEvents(events: readonly contract.SessionEvent[], options: { last: boolean }): Promise<void> {
    for (const { kind, sessionId, user } of events) this.#events.settle(kind, keyOf(sessionId, user), options);
  }

  async enter({ session, channel, info, announceUpTo }: contract.Membership): Promise<void> {
    const { sessionId, claim } = session;
    const user = identityKey(session);
    const entries = this.#present.get(channel) ?? new Map<string, Entry>();
    this.#present.set(channel, entries);
    const before = entries.get(sessionId);
    if (before && before.claim > claim) return;
    const first = !before && ![...entries.values()].some((entry) => entry.user === user);
    const member = memberOf(session, channel, info);
    entries.set(sessionId, { user, member, claim, announceUpTo });
    if (first && entries.size <= announceUpTo) await this.#publish("sync:join", member);
  }

  async leave({ session, channel }: contract.Membership): Promise<void> {
    const entries = this.#present.get(channel);
    const entry = entries?.get(session.sessionId);
    if (!entries || entry?.claim !== session.claim) return;
    const announced = entries.size <= entry.announceUpTo;
    entries.delete(session.sessionId);
    if (entries.size === 0) this.#present.delete(channel);
    const last = ![...entries.values()].some((other) => other.user === entry.user);
    if (last && announced) await this.#publish("sync:leave", entry.member);
  }

  async presence(channel: string, listUpTo: number): Promise<PresenceAck> {
    const entries = [...(this.#present.get(channel)?.values() ?? [])];
    if (entries.length > listUpTo) return { count: new Set(entries.map(({ user }) => user)).size };
    return { members: membersByUser(entries.map(({ member }) => member)) };
  }

  async sessionsOf(user: IdentityKey): Promise<contract.SessionRecord[]> {
    return [...this.#sessions.values()]
      .filter((session) => session.user === user && session.endedAt === undefined)
      .map(({ sessionId, node, connectedAt }) => ({ sessionId, node, connectedAt }));
  }

  async revoke(user: IdentityKey, revocation: contract.Revocation): Promise<number> {
    const now = Date.now();
    const revoked = this.#revoked.get(user) ?? { user: 0, sessions: new Map(), grants: new Map(), until: 0 };
    this.#revoked.set(user, revoked);
    revoked.until = now + maxResumeMs;
    // Later than every earlier revocation: a check that passed those must not pass this one.
    const at = Math.max(
      now,
      revoked.user + 1,
      ...[...revoked.sessions.values(), ...revoked.grants.values()].map((last) => last + 1),
    );
    for (const dates of [revoked.sessions, revoked.grants]) {
      for (const [name, date] of dates) if (date < now - maxResumeMs) dates.delete(name);
    }
    const isFull = revoked.sessions.size + revoked.grants.size >= maxRevocations;
    if (revocation.kind === "grant") revoked.grants.set(isFull ? allChannels : revocation.channel, at);
    else if (revocation.kind === "user" || isFull) revoked.user = at;
    else revoked.sessions.set(revocation.sessionId, at);
    return at;
  }

  async renewLease(): Promise<boolean> {
    return true;
  }

  async abandon(): Promise<void> {}

  async sweep(): Promise<number> {
    return 0;
  }

  async #publish(event: string, member: Member): Promise<void> {
    await this.#broker.publishEphemeral({ channel: member.channel, event, data: JSON.stringify(member) });
  }

  #tidy(): void {
    const now = Date.now();
    for (const [key, { endedAt, isOver }] of this.#sessions) {
      const keptMs = isOver ? overMs : graceMs;
      const isDue = sessionEventKinds.some((kind) => this.#events.has(kind, key));
      if (endedAt !== undefined && endedAt + keptMs <= now && !isDue) this.#sessions.delete(key);
    }
    for (const [user, { until }] of this.#revoked) if (until <= now) this.#revoked.delete(user);
  }
}

/** It may be resumed. */
function isKnown({ endedAt, isOver }: StoredSession, now: number): boolean {
  return endedAt === undefined || (!isOver && endedAt + graceMs > now);
}

/** A session belongs to one user, as on Redis. */
function sessionKey(session: contract.HeldSession): string {
  return keyOf(session.sessionId, identityKey(session));
}

function keyOf(sessionId: string, user: IdentityKey): string {
  return `${sessionId} ${user}`;
}
