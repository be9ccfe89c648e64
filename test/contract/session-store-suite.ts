/** The suite of every SessionStore. */
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { BrokerListener, ChannelBroker, Ephemeral, UserMessage } from "../../shared/channels/contract.ts";
import { type IdentityKey, identityKey, type UserIdentity } from "../../shared/protocol/identity-key.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type {
  Claim,
  ClaimOutcome,
  HeldSession,
  Membership,
  SessionEvent,
  SessionEventStore,
  SessionStore,
} from "../../shared/sessions/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { eventually } from "../support/eventually.ts";

/** Two clients of one store, like two nodes, and the broker that delivers its notifications. */
export interface StoresUnderTest extends Service {
  stores: readonly [SessionStore & SessionEventStore, SessionStore & SessionEventStore];
  broker: ChannelBroker;
}

const silent: BrokerListener = {
  onPublication: () => undefined,
  onEphemeral: () => undefined,
  onUserMessage: () => undefined,
  onRestored: () => undefined,
};

export function sessionStoreSuite(name: string, open: () => StoresUnderTest): void {
  describe(`the session store in ${name}`, () => {
    let opened: StoresUnderTest;
    let here: SessionStore & SessionEventStore;
    let there: SessionStore & SessionEventStore;
    let user: string;
    let key: IdentityKey;
    let channel: string;
    const userMessages: UserMessage[] = [];
    const told: Ephemeral[] = [];

    beforeEach(async () => {
      opened = open();
      await opened.start();
      [here, there] = opened.stores;
      user = `user ${randomUUID()}`;
      key = identityKey({ user });
      channel = `board:${randomUUID()}`;
      userMessages.length = 0;
      told.length = 0;
      opened.broker.listen({
        ...silent,
        onEphemeral: (_channel, ephemeral) => told.push(ephemeral),
        onUserMessage: (_user, message) => userMessages.push(message),
      });
      await opened.broker.follow({ kind: "user", name: key });
      await opened.broker.follow({ kind: "channel", name: channel });
      for (const store of opened.stores) await store.renewLease("holder-a", { fresh: true });
      await here.renewLease("holder-b", { fresh: true });
    });
    afterEach(async () => {
      await opened.stop();
    });

    async function begin(holder = "holder-a", sessionId: string = randomUUID()): Promise<HeldSession & Claim> {
      const outcome = await here.claim({ mode: "begin", sessionId, user, claim: 0, checkedAt: 0, holder, node: "one" });
      if (outcome.kind !== "held") throw new Error(outcome.kind);
      return { sessionId, user, claim: outcome.claim, checkedAt: outcome.checkedAt };
    }
    async function resume(session: HeldSession & Claim, holder = "holder-b"): Promise<ClaimOutcome> {
      return there.claim({ ...session, mode: "resume", holder, node: "two" });
    }
    function claimOf(outcome: ClaimOutcome): number {
      if (outcome.kind !== "held") throw new Error(outcome.kind);
      return outcome.claim;
    }
    function membership(session: HeldSession, more: Partial<Membership> = {}): Membership {
      return { session, channel, holder: "holder-a", announceUpTo: 100, ...more };
    }

    test("RES-1: a resume elsewhere gets a newer claim and notifies the previous node", async () => {
      const session = await begin();
      const [before] = await there.sessionsOf(key);
      expect(before).toMatchObject({ sessionId: session.sessionId, node: "one" });
      const claim = claimOf(await resume(session));
      expect(claim).toBeGreaterThan(session.claim);
      await eventually(() => userMessages.length > 0);
      expect(userMessages).toEqual([{ kind: "replaced", sessionId: session.sessionId, claim }]);
      // The older claim has no effect, and the session stays a member.
      await here.end(session, "holder-a");
      expect(await here.sessionsOf(key)).toEqual([{ ...before, node: "two" }]);
      const again = await here.claim({ ...session, mode: "announce", holder: "holder-a", node: "one" });
      expect(again.kind).toBe("replaced");
    });

    test("RES-1: an older token of a session still resumes it; the newest claim is in force", async () => {
      const session = await begin();
      const second = claimOf(await resume(session));
      const third = claimOf(await resume(session, "holder-a"));
      expect(third).toBeGreaterThan(second);
    });

    test("RES-1: an older claim ends and leaves nothing, where the session resumed on the same node, too", async () => {
      const session = await begin();
      await here.enter(membership(session));
      const newer = { ...session, claim: claimOf(await resume(session, "holder-a")) };
      await here.enter(membership(newer));
      await here.leave(membership(session));
      await here.end(session, "holder-a");
      expect(await here.sessionsOf(key)).toMatchObject([{ sessionId: session.sessionId }]);
      expect(await here.presence(channel, 100)).toMatchObject({ members: [{ user, connections: 1 }] });
      await here.end(newer, "holder-a");
      expect(await here.sessionsOf(key)).toEqual([]);
    });

    test("RES-2: a session resumes within the grace time; an unknown session is over", async () => {
      const session = await begin();
      await here.end(session, "holder-a");
      expect(await here.sessionsOf(key)).toEqual([]);
      expect((await resume(session)).kind).toBe("held");
      expect(userMessages).toEqual([]);
      expect((await resume({ ...session, sessionId: randomUUID() })).kind).toBe("over");
    });

    test("MOVE-4: a claim reports whether it took the session from another holder", async () => {
      const session = await begin();
      expect(await resume(session)).toMatchObject({ kind: "held", tookOver: true });
      await eventually(() => userMessages.length === 1);
      const last = { ...session, claim: claimOf(await resume(session, "holder-a")) };
      await here.end(last, "holder-a");
      expect(await resume(last)).toMatchObject({ kind: "held", tookOver: false });
    });

    test("RES-5: revoked sessions do not resume: all of a user, or one", async () => {
      const [one, two] = [await begin(), await begin()];
      await there.revoke(key, { kind: "session", sessionId: one.sessionId });
      expect((await resume(one)).kind).toBe("revoked");
      expect((await resume(two)).kind).toBe("held");
      await there.revoke(key, { kind: "user" });
      expect((await resume(two)).kind).toBe("revoked");
      const announced = await here.claim({ ...two, mode: "announce", holder: "holder-a", node: "one" });
      expect(announced.kind).toBe("revoked");
    });

    test("RES-5: a revocation does not affect sessions that begin later", async () => {
      await there.revoke(key, { kind: "user" });
      const session = await begin();
      const outcome = await resume(session);
      expect(outcome.kind).toBe("held");
    });

    test("RES-5: revocations and sessions within one millisecond stay distinct", async () => {
      for (let i = 0; i < 20; i++) {
        const session = await begin();
        expect((await resume(session)).kind).toBe("held");
        await there.revoke(key, i % 2 ? { kind: "user" } : { kind: "session", sessionId: session.sessionId });
        expect((await resume(session)).kind).toBe("revoked");
      }
    });

    test("RES-7: a claim made without the store does not bypass a revocation", async () => {
      const session = await begin();
      await there.revoke(key, { kind: "user" });
      const later = { ...session, claim: session.claim + 60_000 };
      expect((await resume(later)).kind).toBe("revoked");
      const announced = await here.claim({ ...later, mode: "announce", holder: "holder-a", node: "one" });
      expect(announced.kind).toBe("revoked");
    });

    test("RES-7: a claim that is ahead of the store's clock can be revoked", async () => {
      const session = await begin();
      const ahead = { ...session, claim: session.claim + 60_000 };
      const outcome = await here.claim({ ...ahead, mode: "announce", holder: "holder-a", node: "one" });
      await there.revoke(key, { kind: "user" });
      const checkedAt = outcome.kind === "held" ? outcome.checkedAt : Infinity;
      expect((await resume({ ...ahead, checkedAt })).kind).toBe("revoked");
    });

    test("GRANT-2: a claim returns withdrawn grants with their dates", async () => {
      const session = await begin();
      await there.revoke(key, { kind: "grant", channel });
      const outcome = await resume(session);
      const withdrawn = outcome.kind === "held" ? outcome.withdrawn : new Map<string, number>();
      expect([...withdrawn.keys()]).toEqual([channel]);
      expect(withdrawn.get(channel)).toBeGreaterThanOrEqual(session.claim);
    });

    test("PRES-1: a user is listed once; the first join and the last leave are announced", async () => {
      const [one, two] = [await begin(), await begin("holder-b")];
      await here.enter(membership(one, { info: { name: "Ada" } }));
      await there.enter(membership(two, { holder: "holder-b", info: { name: "Ada" } }));
      await here.enter(membership(one, { info: { name: "Ada" } }));
      const members = [{ user, connections: 2, info: { name: "Ada" } }];
      expect(await here.presence(channel, 100)).toEqual({ members });
      await here.leave(membership(one));
      await here.leave(membership(one));
      expect(await there.presence(channel, 100)).toEqual({ members: [{ ...members[0], connections: 1 }] });
      await there.leave(membership(two, { holder: "holder-b" }));
      expect(await here.presence(channel, 100)).toEqual({ members: [] });
      await eventually(() => told.length === 2);
      const data = { channel, user, info: { name: "Ada" } };
      expect(told.map((item) => [item.event, JSON.parse(item.data)])).toEqual([
        ["sync:join", data],
        ["sync:leave", data],
      ]);
    });

    test("PRES-1: members of a new holder are listed at once, those without a lease are hidden", async () => {
      const session = await begin();
      await here.enter(membership(session));
      expect(await there.presence(channel, 100)).toEqual({ members: [{ user, connections: 1 }] });
      await here.renewLease("holder-c", { fresh: true });
      const moved = await here.claim({ ...session, mode: "announce", holder: "holder-c", node: "one" });
      await here.enter(membership(session, { holder: "holder-c" }));
      expect(moved.kind).toBe("held");
      expect(await there.presence(channel, 100)).toEqual({ members: [{ user, connections: 1 }] });
      expect(await there.sessionsOf(key)).toHaveLength(1);
    });

    test("PRES-2: a member leaves, and a session ends, under whichever of its node's names they are stored", async () => {
      const session = await begin();
      await here.enter(membership(session));
      await here.leave(membership(session, { holder: "holder-b" }));
      expect(await here.presence(channel, 100)).toEqual({ members: [] });
      await here.end(session, "holder-b");
      expect(await here.sessionsOf(key)).toEqual([]);
      expect((await resume(session)).kind).toBe("held");
    });

    test("PRES-1: unusual users and infos join and leave like others", async () => {
      const odd = `odd \n "\\ __proto__ \u{1f600} ${randomUUID()}`;
      const session = { sessionId: randomUUID(), user: odd, claim: 1 };
      // An unpaired surrogate: a name truncated by some service.
      const info = { name: "Ada \ud83d", "": null };
      await here.enter(membership(session, { info }));
      expect(await there.presence(channel, 100)).toEqual({ members: [{ user: odd, connections: 1, info }] });
      await here.leave(membership(session, { info }));
      expect(await there.presence(channel, 100)).toEqual({ members: [] });
      await eventually(() => told.length === 2);
      expect(told.map((item) => JSON.parse(item.data) as unknown)).toEqual(
        Array.from({ length: 2 }, () => ({ channel, user: odd, info })),
      );
    });

    describe("users of one name in two tenants, and in none", () => {
      let users: UserIdentity[];
      beforeEach(async () => {
        users = [{ user, tenant: "a" }, { user, tenant: "b" }, { user }];
        for (const of of users) await opened.broker.follow({ kind: "user", name: identityKey(of) });
      });
      async function beginFor(of: UserIdentity, sessionId: string = randomUUID()): Promise<HeldSession & Claim> {
        const request = { sessionId, ...of, claim: 0, checkedAt: 0 };
        const outcome = await here.claim({ ...request, mode: "begin", holder: "holder-a", node: "one" });
        if (outcome.kind !== "held") throw new Error(outcome.kind);
        return { ...request, claim: outcome.claim, checkedAt: outcome.checkedAt };
      }

      test("TEN-2: sessions with one id belong to separate users and end separately", async () => {
        const sessionId = randomUUID();
        const sessions = [];
        for (const of of users) sessions.push(await beginFor(of, sessionId));
        const listed = await Promise.all(users.map((of) => there.sessionsOf(identityKey(of))));
        expect(listed.map((records) => records.map((record) => record.sessionId))).toEqual(
          users.map(() => [sessionId]),
        );
        expect(userMessages).toEqual([]);
        const [first] = sessions as [HeldSession & Claim];
        await here.end(first, "holder-a");
        const left = await Promise.all(users.map((of) => there.sessionsOf(identityKey(of))));
        expect(left.map(({ length }) => length)).toEqual([0, 1, 1]);
      });

      test("TEN-2: only its own user can resume a session and is notified of the takeover", async () => {
        const told: string[] = [];
        opened.broker.listen({ ...silent, onUserMessage: (of) => told.push(of) });
        const [ofA, ofB, without] = users as [UserIdentity, UserIdentity, UserIdentity];
        const session = await beginFor(ofA);
        for (const other of [ofB, without]) {
          const stolen = { ...session, tenant: other.tenant };
          expect((await resume(stolen)).kind).toBe("over");
        }
        expect(await resume(session)).toMatchObject({ kind: "held", tookOver: true });
        await eventually(() => told.length > 0);
        expect(told).toEqual([identityKey(ofA)]);
      });

      test("TEN-2: a revocation or withdrawal affects one of the users", async () => {
        const sessions: (HeldSession & Claim)[] = [];
        for (const of of users) sessions.push(await beginFor(of));
        const [ofA] = users as [UserIdentity];
        await there.revoke(identityKey(ofA), { kind: "grant", channel });
        const withdrawn = [];
        for (const session of sessions) {
          const outcome = await resume(session);
          withdrawn.push(outcome.kind === "held" && outcome.withdrawn.has(channel));
        }
        expect(withdrawn).toEqual([true, false, false]);
        await there.revoke(identityKey(ofA), { kind: "user" });
        const kinds = [];
        for (const session of sessions) kinds.push((await resume(session)).kind);
        expect(kinds).toEqual(["revoked", "held", "held"]);
      });

      test("TEN-3: each user joins, leaves and counts as a member with its tenant", async () => {
        const sessions: (HeldSession & Claim)[] = [];
        for (const of of [...users, ...users]) sessions.push(await beginFor(of));
        for (const session of sessions) await here.enter(membership(session));
        const members = [
          { user, tenant: "a", connections: 2 },
          { user, tenant: "b", connections: 2 },
          { user, connections: 2 },
        ];
        const shown = await there.presence(channel, 100);
        const listed = "members" in shown ? shown.members : [];
        expect(listed.toSorted((a, b) => (a.tenant ?? "z").localeCompare(b.tenant ?? "z"))).toEqual(members);
        expect(await there.presence(channel, 5)).toEqual({ count: 3 });
        for (const session of sessions) await here.leave(membership(session));
        expect(await there.presence(channel, 100)).toEqual({ members: [] });
        await eventually(() => told.length === 6);
        const each = users.map((of) => ({ channel, ...of }));
        expect(told.map(({ data }) => JSON.parse(data) as unknown)).toEqual([...each, ...each]);
        expect(told.map(({ event }) => event)).toEqual(
          ["join", "leave"].flatMap((kind) => users.map(() => `sync:${kind}`)),
        );
      });
    });

    describe("session events", () => {
      async function beginWith(profile: string, { connected = true } = {}): Promise<HeldSession & Claim> {
        const session = { sessionId: randomUUID(), user, claim: 0, checkedAt: 0 };
        const events = { profile, connected };
        const outcome = await here.claim({ ...session, mode: "begin", holder: "holder-a", node: "one", events });
        if (outcome.kind !== "held") throw new Error(outcome.kind);
        return { ...session, claim: outcome.claim, checkedAt: outcome.checkedAt };
      }
      async function resumeWith(profile: string, session: HeldSession & Claim): Promise<ClaimOutcome> {
        const events = { profile, connected: false };
        return there.claim({ ...session, mode: "resume", holder: "holder-b", node: "two", events });
      }
      async function take(store = here): Promise<readonly SessionEvent[]> {
        return (await store.takeEvents([slotOf(key)])).events;
      }
      async function nextMs(): Promise<number | undefined> {
        return (await here.takeEvents([slotOf(key)])).nextMs;
      }

      test("EVT-1: connected is due once, with the claim; one caller gets it", async () => {
        const { sessionId, claim } = await beginWith("{}");
        const events = await take();
        expect(events).toEqual([{ kind: "connected", sessionId, user: key, at: claim, profile: "{}" }]);
        expect(await take(there)).toEqual([]);
        await here.settleEvents(events, { last: false });
        expect(await nextMs()).toBeUndefined();
      });

      test("EVT-3: disconnected is due at once, or after the grace time; a resume takes it back", async () => {
        const session = await beginWith("first", { connected: false });
        await here.end(session, "holder-a", { mayReturn: true, reason: "ping_timeout" });
        expect(await take()).toEqual([]);
        const leftMs = await nextMs();
        expect(leftMs).toBeGreaterThan(20_000);
        expect(leftMs).toBeLessThanOrEqual(30_000);
        const last = { ...session, claim: claimOf(await resumeWith("second", session)) };
        expect(await nextMs()).toBeUndefined();
        // The older connection ends after that.
        await here.end(session, "holder-a", { mayReturn: false });
        expect(await take()).toEqual([]);
        await there.end(last, "holder-b", { mayReturn: false, reason: "client" });
        const events = await take();
        expect(events).toHaveLength(1);
        const [event] = events;
        expect(event).toMatchObject({ kind: "disconnected", user: key, reason: "client", profile: "second" });
        expect(event?.at).toBeGreaterThanOrEqual(session.claim);
        await here.settleEvents(events, { last: false });
      });

      test("EVT-3: a session is over once its disconnected was taken, also for the node that has it", async () => {
        const session = await beginWith("{}", { connected: false });
        await here.end(session, "holder-a", { mayReturn: false });
        const events = await take();
        expect(events).toHaveLength(1);
        for (let settled = 0; settled < 2; settled++) {
          expect((await resumeWith("{}", session)).kind).toBe("over");
          const announced = { ...session, mode: "announce", holder: "holder-a", node: "one" } as const;
          expect((await here.claim(announced)).kind).toBe("over");
          await here.settleEvents(events, { last: false });
        }
        expect(await nextMs()).toBeUndefined();
      });

      test("EVT-2: disconnected comes after a connected that is not stored yet", async () => {
        const session = await beginWith("{}");
        await here.end(session, "holder-a", { mayReturn: false });
        const both = await take();
        expect(both.map(({ kind }) => kind)).toEqual(["connected", "disconnected"]);
        await here.settleEvents(both, { last: false });
        const slow = await beginWith("{}");
        expect(await take()).toHaveLength(1);
        // The caller that has the first one may be gone.
        await here.end(slow, "holder-a", { mayReturn: false });
        const again = await take(there);
        expect(again.map(({ kind }) => kind)).toEqual(["connected", "disconnected"]);
        await there.settleEvents(again, { last: false });
      });

      test("EVT-7: without a profile, or after its last event, a session has no events", async () => {
        const plain = await begin();
        await here.end(plain, "holder-a", { mayReturn: false });
        const session = await beginWith("{}");
        await here.settleEvents(await take(), { last: true });
        await here.end(session, "holder-a", { mayReturn: false });
        expect(await take()).toEqual([]);
        expect(await nextMs()).toBeUndefined();
      });

      test("EVT-7: who settles an event late takes no profile that a later claim has stored", async () => {
        const session = await beginWith("first");
        const events = await take();
        // Its taker is frozen until another one has settled the event, which knows newer rules.
        await there.settleEvents(events, { last: false });
        const last = { ...session, claim: claimOf(await resumeWith("second", session)) };
        await here.settleEvents(events, { last: true });
        await there.end(last, "holder-b", { mayReturn: false });
        const ended = await take();
        expect(ended.map(({ kind, profile }) => [kind, profile])).toEqual([["disconnected", "second"]]);
        await here.settleEvents(ended, { last: true });
        expect(await nextMs()).toBeUndefined();
      });

      test("EVT-8: one call takes a bounded number of events, and says that there are more", async () => {
        const sessions = await Promise.all(Array.from({ length: 700 }, async () => beginWith("{}")));
        const seen = new Set<string>();
        let calls = 0;
        for (let more = true; more; calls++) {
          const { events, nextMs } = await here.takeEvents([slotOf(key)]);
          expect(events.length).toBeLessThanOrEqual(500);
          for (const event of events) seen.add(event.sessionId);
          await here.settleEvents(events, { last: true });
          more = nextMs === 0;
        }
        expect(seen).toEqual(new Set(sessions.map(({ sessionId }) => sessionId)));
        expect(calls).toBeLessThan(5);
      });
    });

    test("PRES-2: a moved session counts once; its older claim has no effect", async () => {
      const session = await begin();
      await here.enter(membership(session));
      const moved = { ...session, claim: claimOf(await resume(session)) };
      await there.enter(membership(moved, { holder: "holder-b" }));
      await here.enter(membership(session));
      await here.leave(membership(session));
      expect(await here.presence(channel, 100)).toEqual({ members: [{ user, connections: 1 }] });
      await eventually(() => told.length > 0);
      expect(told.map((item) => item.event)).toEqual(["sync:join"]);
    });

    test("PRES-3: a channel with too many sessions gives the number of users and announces no joins", async () => {
      for (let i = 0; i < 3; i++) {
        const sessionId = randomUUID();
        await here.enter(membership({ sessionId, user: `${user} ${i % 2}`, claim: 1 }, { announceUpTo: 1 }));
      }
      expect(await here.presence(channel, 2)).toEqual({ count: 2 });
      const list = await here.presence(channel, 3);
      expect("members" in list && list.members).toHaveLength(2);
      const last = { sessionId: randomUUID(), user: `${user} 2`, claim: 1 };
      await here.enter(membership(last, { announceUpTo: 1 }));
      await here.leave(membership(last));
      await here.enter(membership(last, { announceUpTo: 100 }));
      await eventually(() => told.length >= 2);
      const users = told.map(({ event, data }) => [event, (JSON.parse(data) as { user: string }).user]);
      expect(users).toEqual([
        ["sync:join", `${user} 0`],
        ["sync:join", `${user} 2`],
      ]);
    });
  });
}
