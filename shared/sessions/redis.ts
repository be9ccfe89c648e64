import { topicName } from "../channels/keys.ts";
import { parseJson } from "../json/json.ts";
import { type IdentityKey, identityKey } from "../protocol/identity-key.ts";
import type { PresenceAck } from "../protocol/wire.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { slotCount, slotOf } from "../redis/slots.ts";
import type * as contract from "./contract.ts";
import { allChannels, everyChannel, graceMs, maxResumeMs, maxRevocations } from "./contract.ts";
import * as keys from "./keys.ts";
import { type Member, memberOf, membersByUser } from "./members.ts";
import { RedisSessionEvents } from "./redis-events.ts";
import { RedisLeases } from "./redis-leases.ts";
import { StoreClock } from "./store-clock.ts";

/** How the sessions of a node end that is gone. */
const lost: contract.SessionEnding = { mayReturn: true, reason: "node_lost" };
/** Entries that a sweep removes in one pipeline. */
const sweepBatch = 500;

type ClaimReply = [
  outcome: contract.ClaimOutcome["kind"],
  claim: string,
  checkedAt: string,
  took: string,
  ...revocations: string[],
];
type PresenceReply = [users: number, ...entries: string[]];

const claimScript = script<ClaimReply>(new URL("claim-session.lua", import.meta.url), 6);
const endScript = script(new URL("end-session.lua", import.meta.url), 5);
const enterScript = script(new URL("enter-channel.lua", import.meta.url), 3);
const leaveScript = script(new URL("leave-channel.lua", import.meta.url), 3);
const readPresenceScript = script<PresenceReply>(new URL("read-presence.lua", import.meta.url), 2);
const revokeScript = script<string>(new URL("revoke.lua", import.meta.url), 1);

/** Sessions and presence of a fleet. */
export class RedisSessionStore implements contract.SessionStore, contract.SessionEventStore {
  readonly #cells: Cells;
  readonly #leases: RedisLeases;
  readonly #events: RedisSessionEvents;
  /** Of the fleet's Redis only: with times of several cells it would jump by what their clocks differ. */
  readonly #clock = new StoreClock();

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#leases = new RedisLeases(cells);
    this.#events = new RedisSessionEvents(cells);
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  now(): number {
    return this.#clock.now();
  }

  async claim(request: contract.ClaimRequest): Promise<contract.ClaimOutcome> {
    const { mode, sessionId, claim, checkedAt, holder, node, events } = request;
    const user = identityKey(request);
    const cell = this.#cells.of(user);
    const { sessions, revoked } = keys.userKeys(cell.root, user);
    const slot = slotOf(user);
    const own = keys.eventKeys(cell.root, slot);
    const [kind, held, checked, took, ...revocations] = await cell.run(
      claimScript,
      ...[sessions, keys.endedKey(cell.root, user, sessionId), revoked, keys.holdingsKey(cell.root, slot, holder)],
      ...[own.profiles, own.events],
      ...[mode, sessionId, claim, holder, node, topicName(cell.root, { kind: "user", name: user })],
      ...[keys.formatHolding({ kind: "session", sessionId, user }), checkedAt, keys.eventField(sessionId, user)],
      ...[events?.profile ?? "", events?.connected ? 1 : 0, this.now()],
    );
    if (kind !== "held") return { kind };
    const tookOver = took === "1";
    return { kind, claim: Number(held), checkedAt: Number(checked), withdrawn: withdrawals(revocations), tookOver };
  }

  async end(
    session: contract.HeldSession,
    holder: string,
    ending: contract.SessionEnding = { mayReturn: true },
  ): Promise<void> {
    const { sessionId, claim } = session;
    await this.#end({ kind: "session", sessionId, user: identityKey(session) }, String(claim), holder, ending);
  }

  async enter({ session, channel, holder, info, announceUpTo }: contract.Membership): Promise<void> {
    const { sessionId, claim } = session;
    const user = identityKey(session);
    const cell = this.#cells.of(channel);
    const { sessions, users } = keys.presenceKeys(cell.root, channel);
    await cell.run(
      enterScript,
      ...[sessions, users, keys.holdingsKey(cell.root, slotOf(channel), holder)],
      ...[sessionId, claim, holder, user, JSON.stringify(memberOf(session, channel, info)), announceUpTo],
      topicName(cell.root, { kind: "channel", name: channel }),
      keys.formatHolding({ kind: "membership", sessionId, channel, user }),
    );
  }

  async leave({ session, channel, holder }: contract.Membership): Promise<void> {
    const { sessionId, claim } = session;
    const user = identityKey(session);
    await this.#leave({ kind: "membership", sessionId, channel, user }, String(claim), holder);
  }

  async presence(channel: string, listUpTo: number): Promise<PresenceAck> {
    const cell = this.#cells.of(channel);
    const { sessions, users } = keys.presenceKeys(cell.root, channel);
    const [count, ...entries] = await cell.run(readPresenceScript, sessions, users, listUpTo);
    if (count > 0 && entries.length === 0) return { count };
    const members = entries.map((entry) => {
      const [, holder = "", member = ""] = /^\d+ (\S+) \d+ (.+)$/s.exec(entry) ?? [];
      return { holder, member: parseJson(member) as Member };
    });
    return { members: membersByUser((await this.#leases.live(members)).map(({ member }) => member)) };
  }

  async sessionsOf(user: IdentityKey): Promise<contract.SessionRecord[]> {
    const cell = this.#cells.of(user);
    const records = await cell.run<Record<string, string>>("hgetall", keys.userKeys(cell.root, user).sessions);
    const sessions = Object.entries(records).flatMap(([sessionId, record]) => {
      const [, holder = "", connectedAt, node] = /^\d+ (\S+) (\d+) (.+)$/s.exec(record) ?? [];
      return node === undefined ? [] : [{ holder, session: { sessionId, node, connectedAt: Number(connectedAt) } }];
    });
    return (await this.#leases.live(sessions)).map(({ session }) => session);
  }

  async revoke(user: IdentityKey, revocation: contract.Revocation): Promise<number> {
    const isGrant = revocation.kind === "grant";
    const cell = this.#cells.of(user);
    const at = await cell.run(
      revokeScript,
      keys.userKeys(cell.root, user).revoked,
      keys.revocationName(revocation),
      // Past the bound a revocation covers more than requested, never less.
      isGrant ? `grant ${allChannels}` : "user",
      maxRevocations,
      maxResumeMs,
    );
    return Number(at);
  }

  async renewLease(holder: string, { fresh }: { fresh: boolean }): Promise<boolean> {
    const askedAt = performance.now();
    const { isKnown, now } = await this.#leases.renew(holder, fresh);
    this.#clock.set(now, askedAt);
    return isKnown;
  }

  async abandon(holder: string, { inMs }: { inMs: number }): Promise<void> {
    await this.#leases.abandon(holder, inMs);
  }

  async sweep(): Promise<number> {
    return this.#leases.sweepExpired(async (holder, lastSeen) => {
      const failures: unknown[] = [];
      for (let slot = 0; slot < slotCount; slot++) {
        await this.#sweepSlot(slot, holder, lastSeen).catch((error: unknown) => failures.push(error));
      }
      // The next pass looks again at slots that could not be reached.
      if (failures.length > 0) throw failures[0];
    });
  }

  async takeEvents(
    slots?: readonly number[],
  ): Promise<{ events: contract.SessionEvent[]; nextMs: number | undefined }> {
    return this.#events.take(slots);
  }

  async settleEvents(events: readonly contract.SessionEvent[], options: { last: boolean }): Promise<void> {
    await this.#events.settle(events, options);
  }

  async #sweepSlot(slot: number, holder: string, lastSeen: string): Promise<void> {
    const cell = this.#cells.ofSlot(slot);
    const key = keys.holdingsKey(cell.root, slot, holder);
    const holdings = await cell.run<string[]>("smembers", key);
    for (let at = 0; at < holdings.length; at += sweepBatch) {
      await Promise.all(
        holdings.slice(at, at + sweepBatch).map(async (text) => {
          const holding = keys.parseHolding(text);
          if (holding?.kind === "session") await this.#end(holding, "", holder, { ...lost, lastSeen });
          else if (holding) await this.#leave(holding, "", holder);
          else await cell.run("srem", key, text);
        }),
      );
    }
  }

  async #end(
    holding: keys.Holding & { kind: "session" },
    claim: string,
    holder: string,
    { mayReturn, reason = "-", lastSeen = "" }: contract.SessionEnding & { lastSeen?: string },
  ): Promise<void> {
    const { sessionId, user } = holding;
    const cell = this.#cells.of(user);
    const slot = slotOf(user);
    const own = keys.eventKeys(cell.root, slot);
    await cell.run(
      endScript,
      ...[keys.userKeys(cell.root, user).sessions, keys.endedKey(cell.root, user, sessionId)],
      keys.holdingsKey(cell.root, slot, holder),
      ...[own.profiles, own.events],
      ...[sessionId, claim, holder, graceMs, keys.formatHolding(holding), keys.eventField(sessionId, user)],
      ...[mayReturn ? 1 : 0, reason, lastSeen],
    );
  }

  async #leave(holding: keys.Holding & { kind: "membership" }, claim: string, holder: string): Promise<void> {
    const { sessionId, channel, user } = holding;
    const cell = this.#cells.of(channel);
    const { sessions, users } = keys.presenceKeys(cell.root, channel);
    await cell.run(
      leaveScript,
      ...[sessions, users, keys.holdingsKey(cell.root, slotOf(channel), holder)],
      ...[sessionId, claim, holder, user],
      topicName(cell.root, { kind: "channel", name: channel }),
      keys.formatHolding(holding),
    );
  }
}

/** @param revocations names and times, alternating. */
function withdrawals(revocations: readonly string[]): Map<string, number> {
  const withdrawn = new Map<string, number>();
  for (let at = 0; at < revocations.length; at += 2) {
    const [name = "", time] = revocations.slice(at, at + 2);
    if (name.startsWith("grant ")) withdrawn.set(name.slice("grant ".length), Number(time));
    // A session that resumed since then still holds grants from before.
    else if (name === "user") withdrawn.set(everyChannel, Math.max(Number(time), withdrawn.get(everyChannel) ?? 0));
  }
  return withdrawn;
}
