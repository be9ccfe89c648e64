import { topicName } from "../channels/keys.ts";
import { cellOf, slotCount, slotOf } from "../redis/slots.ts";
import { type IdentityKey, identityKey } from "../protocol/identity-key.ts";
import { parseJson } from "../json/json.ts";
import type { PresenceAck } from "../protocol/wire.ts";
import type { RedisClient } from "../redis/connect.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { defineScript } from "../redis/scripts.ts";
import { type Member, memberOf, membersByUser } from "./members.ts";
import {
  endedKey,
  formatHolding,
  type Holding,
  holdingsKey,
  leaseKeys,
  parseHolding,
  presenceKeys,
  revocationName,
  userKeys,
} from "./keys.ts";
import {
  type ClaimOutcome,
  type ClaimRequest,
  everyChannel,
  graceMs,
  type HeldSession,
  leaseMs,
  maxResumeMs,
  maxRevocations,
  type Membership,
  type Revocation,
  type SessionRecord,
  type SessionStore,
} from "./contract.ts";

/** Two passes, this far apart: what a paused process had under way may still arrive after the first. */
const sweepPasses = 2;
const sweepAgainMs = 30_000;
/** Holders in one go. */
const sweepHolders = 20;
/** Holdings that are removed in one pipeline. */
const sweepBatch = 500;
/** For so long the list of holders with a lease is used again. */
const holdersMaxAgeMs = 250;

type ClaimReply = [
  outcome: ClaimOutcome["kind"],
  claim: string,
  now: string,
  checkedAt: string,
  took: string,
  ...revocations: string[],
];
type PresenceReply = [users: number, ...entries: string[]];
type LeaseReply = [known: 0 | 1, now: string];

/** Sessions and members of a fleet. */
export class RedisSessionStore implements SessionStore {
  readonly #cells: readonly RedisConnections[];
  /** Redis's clock less ours. */
  #clockOffsetMs = 0;
  #holders: { read: Promise<Set<string>>; at: number } | undefined;

  /** @param cells by their number; the caller starts and stops them. */
  constructor(cells: readonly RedisConnections[]) {
    this.#cells = cells;
    for (const { commands } of cells) defineScripts(commands);
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  now(): number {
    return Date.now() + this.#clockOffsetMs;
  }

  async claim(request: ClaimRequest): Promise<ClaimOutcome> {
    const { mode, sessionId, claim, checkedAt, holder, node } = request;
    const user = identityKey(request);
    const cell = this.#cell(user);
    const { sessions, revoked } = userKeys(cell.root, user);
    const [kind, held, now, checked, took, ...revocations] = await cell.run<ClaimReply>(
      "tidegateClaimSession",
      sessions,
      endedKey(cell.root, user, sessionId),
      revoked,
      holdingsKey(cell.root, slotOf(user), holder),
      mode,
      sessionId,
      claim,
      holder,
      node,
      topicName(cell.root, { kind: "user", name: user }),
      formatHolding({ kind: "session", sessionId, user }),
      checkedAt,
    );
    this.#hear(now);
    if (kind !== "held") return { kind };
    const tookOver = took === "1";
    return { kind, claim: Number(held), checkedAt: Number(checked), withdrawn: withdrawals(revocations), tookOver };
  }

  async end(session: HeldSession, holder: string): Promise<void> {
    const { sessionId, claim } = session;
    await this.#end({ kind: "session", sessionId, user: identityKey(session) }, String(claim), holder);
  }

  async enter({ session, channel, holder, info, tellUpTo }: Membership): Promise<void> {
    const { sessionId, claim } = session;
    const user = identityKey(session);
    const cell = this.#cell(channel);
    const keys = presenceKeys(cell.root, channel);
    await cell.run(
      "tidegateEnterChannel",
      keys.sessions,
      keys.users,
      holdingsKey(cell.root, slotOf(channel), holder),
      sessionId,
      claim,
      holder,
      user,
      JSON.stringify(memberOf(session, channel, info)),
      tellUpTo,
      topicName(cell.root, { kind: "channel", name: channel }),
      formatHolding({ kind: "membership", sessionId, channel, user }),
    );
  }

  async leave({ session, channel, holder }: Membership): Promise<void> {
    const { sessionId, claim } = session;
    const user = identityKey(session);
    await this.#leave({ kind: "membership", sessionId, channel, user }, String(claim), holder);
  }

  async presence(channel: string, listUpTo: number): Promise<PresenceAck> {
    const cell = this.#cell(channel);
    const { sessions, users } = presenceKeys(cell.root, channel);
    const [count, ...entries] = await cell.run<PresenceReply>("tidegateReadPresence", sessions, users, listUpTo);
    if (count > 0 && entries.length === 0) return { count };
    const members = entries.map((entry) => {
      const [, holder = "", member = ""] = /^\d+ (\S+) \d+ (.+)$/s.exec(entry) ?? [];
      return { holder, member: parseJson(member) as Member };
    });
    return { members: membersByUser((await this.#withLease(members)).map(({ member }) => member)) };
  }

  async sessionsOf(user: IdentityKey): Promise<SessionRecord[]> {
    const cell = this.#cell(user);
    const records = await cell.run<Record<string, string>>("hgetall", userKeys(cell.root, user).sessions);
    const sessions = Object.entries(records).flatMap(([sessionId, record]) => {
      const [, holder = "", connectedAt, node] = /^\d+ (\S+) (\d+) (.+)$/s.exec(record) ?? [];
      return node === undefined ? [] : [{ holder, session: { sessionId, node, connectedAt: Number(connectedAt) } }];
    });
    return (await this.#withLease(sessions)).map(({ session }) => session);
  }

  async revoke(user: IdentityKey, revocation: Revocation): Promise<number> {
    const isGrant = revocation.kind === "grant";
    const cell = this.#cell(user);
    const at = await cell.run<string>(
      "tidegateRevoke",
      userKeys(cell.root, user).revoked,
      revocationName(revocation),
      // Past the bound more is taken away than was asked for, never less.
      isGrant ? `grant ${everyChannel}` : "user",
      maxRevocations,
      maxResumeMs,
    );
    return Number(at);
  }

  async renewLease(holder: string, { fresh }: { fresh: boolean }): Promise<boolean> {
    const [known, now] = await this.#leases.run<LeaseReply>(
      "tidegateRenewLease",
      this.#leaseKeys.leases,
      holder,
      leaseMs,
      fresh ? 1 : 0,
    );
    this.#hear(now);
    return known === 1;
  }

  async abandon(holder: string, { inMs }: { inMs: number }): Promise<void> {
    const { leases, toSweep } = this.#leaseKeys;
    await this.#leases.run("tidegateAbandon", leases, toSweep, holder, inMs);
  }

  async sweep(): Promise<number> {
    const { leases, toSweep, passes } = this.#leaseKeys;
    const holders = await this.#leases.run<string[]>(
      "tidegateTakeExpired",
      leases,
      toSweep,
      sweepAgainMs,
      sweepHolders,
    );
    for (const holder of holders) {
      for (let slot = 0; slot < slotCount; slot++) await this.#sweepSlot(slot, holder);
      await this.#leases.run("tidegateEndSweep", toSweep, passes, holder, sweepPasses);
    }
    return holders.length;
  }

  async #sweepSlot(slot: number, holder: string): Promise<void> {
    const cell = this.#cellOfSlot(slot);
    const key = holdingsKey(cell.root, slot, holder);
    const holdings = await cell.run<string[]>("smembers", key);
    for (let at = 0; at < holdings.length; at += sweepBatch) {
      await Promise.all(
        holdings.slice(at, at + sweepBatch).map(async (text) => {
          const holding = parseHolding(text);
          if (holding?.kind === "session") await this.#end(holding, "", holder);
          else if (holding) await this.#leave(holding, "", holder);
          else await cell.run("srem", key, text);
        }),
      );
    }
  }

  async #end(holding: Holding & { kind: "session" }, claim: string, holder: string): Promise<void> {
    const { sessionId, user } = holding;
    const cell = this.#cell(user);
    await cell.run(
      "tidegateEndSession",
      userKeys(cell.root, user).sessions,
      endedKey(cell.root, user, sessionId),
      holdingsKey(cell.root, slotOf(user), holder),
      sessionId,
      claim,
      holder,
      graceMs,
      formatHolding(holding),
    );
  }

  async #leave(holding: Holding & { kind: "membership" }, claim: string, holder: string): Promise<void> {
    const { sessionId, channel, user } = holding;
    const cell = this.#cell(channel);
    const { sessions, users } = presenceKeys(cell.root, channel);
    await cell.run(
      "tidegateLeaveChannel",
      sessions,
      users,
      holdingsKey(cell.root, slotOf(channel), holder),
      sessionId,
      claim,
      holder,
      user,
      topicName(cell.root, { kind: "channel", name: channel }),
      formatHolding(holding),
    );
  }

  /** What others left in the store is not shown before it is swept. */
  async #withLease<Held extends { holder: string }>(held: readonly Held[]): Promise<readonly Held[]> {
    const isKnown = ({ holder }: Held): boolean => holders.has(holder);
    let holders = await this.#currentHolders(holdersMaxAgeMs);
    // It may have begun since: a name is in the list before anything is told under it.
    if (!held.every(isKnown)) holders = await this.#currentHolders(0);
    return held.filter(isKnown);
  }

  async #currentHolders(maxAgeMs: number): Promise<Set<string>> {
    const now = performance.now();
    if (!this.#holders || this.#holders.at + maxAgeMs <= now) {
      const read = this.#leases
        .run<string[]>("zrange", this.#leaseKeys.leases, "0", "-1")
        .then((names) => new Set(names));
      this.#holders = { read, at: now };
      read.catch(() => (this.#holders = undefined));
    }
    return this.#holders.read;
  }

  #hear(redisNow: string): void {
    this.#clockOffsetMs = Number(redisNow) - Date.now();
  }

  get #leases(): RedisConnections {
    return this.#cellOfSlot(0);
  }

  get #leaseKeys(): ReturnType<typeof leaseKeys> {
    return leaseKeys(this.#leases.root);
  }

  #cell(name: string): RedisConnections {
    return this.#cellOfSlot(slotOf(name));
  }

  #cellOfSlot(slot: number): RedisConnections {
    const cell = this.#cells[cellOf(slot)];
    if (!cell) throw new Error(`no cell owns slot ${slot}`);
    return cell;
  }
}

function defineScripts(client: RedisClient): void {
  const define = (name: string, file: string, numberOfKeys: number): void => {
    defineScript(client, name, new URL(file, import.meta.url), numberOfKeys);
  };
  define("tidegateClaimSession", "claim-session.lua", 4);
  define("tidegateEndSession", "end-session.lua", 3);
  define("tidegateEnterChannel", "enter-channel.lua", 3);
  define("tidegateLeaveChannel", "leave-channel.lua", 3);
  define("tidegateReadPresence", "read-presence.lua", 2);
  define("tidegateRevoke", "revoke.lua", 1);
  define("tidegateRenewLease", "renew-lease.lua", 1);
  define("tidegateAbandon", "abandon.lua", 2);
  define("tidegateTakeExpired", "take-expired.lua", 2);
  define("tidegateEndSweep", "end-sweep.lua", 2);
}

/** @param revocations name and time in turn. */
function withdrawals(revocations: readonly string[]): Map<string, number> {
  const withdrawn = new Map<string, number>();
  for (let at = 0; at < revocations.length; at += 2) {
    const [name = "", time] = revocations.slice(at, at + 2);
    if (name.startsWith("grant ")) withdrawn.set(name.slice("grant ".length), Number(time));
    // Whoever came back since still holds grants from before.
    else if (name === "user") withdrawn.set(everyChannel, Math.max(Number(time), withdrawn.get(everyChannel) ?? 0));
  }
  return withdrawn;
}
