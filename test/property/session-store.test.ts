/** The session stores in memory and on Redis agree, whatever late nodes do. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { MemorySessionStore } from "../../shared/sessions/memory.ts";
import { RedisSessionStore } from "../../shared/sessions/redis.ts";
import type {
  Claim,
  HeldSession,
  SessionEvent,
  SessionEventStore,
  SessionStore,
} from "../../shared/sessions/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { connectedRedis } from "../support/connected-redis.ts";
import { quietErrors } from "../support/logger.ts";

const store = connectedRedis();

/** One call of a node. `claim`: index of the session's claims so far, 0 is the newest. */
interface Step {
  kind: "begin" | "resume" | "announce" | "end" | "quit" | "enter" | "leave" | "take" | "settle" | "revoke";
  session: number;
  claim: number;
  /** A node has several names. */
  holder: string;
}

/** Rare, because it ends a session for good. */
const kinds = ["begin", "resume", "announce", "end", "quit", "enter", "leave", "take", "settle"].flatMap(
  (kind) => Array(5).fill(kind) as Step["kind"][],
);

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...kinds, "revoke"),
  session: fc.nat({ max: 3 }),
  claim: fc.constantFrom(0, 0, 0, 1, 2),
  holder: fc.constantFrom("holder", "former"),
});

/** The answers of one store to the steps, and its final state. */
async function run(
  store: SessionStore & SessionEventStore,
  steps: readonly Step[],
  suffix: string,
): Promise<unknown[]> {
  for (const holder of ["holder", "former"]) await store.renewLease(holder, { fresh: true });
  const channel = `room:${suffix}`;
  // Users of one name in two tenants.
  const users = [undefined, undefined, "acme", "acme"].map((tenant) => ({ user: `ada ${suffix}`, tenant }));
  /** Claims of each session, newest first, each by its own connection. */
  const claims: (HeldSession & Claim)[][] = [[], [], [], []];
  const ids = users.map((_, i) => `session-${i}-${suffix}`);
  const slots = [...new Set(users.map((user) => slotOf(identityKey(user))))];
  /** Of this run, and not settled. */
  let taken: SessionEvent[] = [];
  const seen: unknown[] = [];
  for (const { kind, session: at, claim, holder } of steps) {
    const user = users[at] ?? { user: "" };
    const held = claims[at]?.[claim];
    if (kind === "revoke") {
      await store.revoke(identityKey(user), { kind: "session", sessionId: ids[at] ?? "" });
    } else if (kind === "take") {
      const { events } = await store.takeEvents(slots);
      const own = events.filter(({ sessionId }) => ids.includes(sessionId));
      taken.push(...own);
      // Those of different sessions have no order.
      seen.push(ids.map((id) => own.filter(({ sessionId }) => sessionId === id).map((event) => event.kind)));
    } else if (kind === "settle") {
      await store.settleEvents(taken, { last: false });
      taken = [];
    } else if (kind === "begin" || held) {
      const sessionId = ids[at] ?? "";
      const said = { sessionId, ...user, claim: held?.claim ?? 0, checkedAt: held?.checkedAt ?? 0 };
      const membership = { session: said, channel, holder, announceUpTo: 0 };
      if (kind === "end") await store.end(said, holder);
      else if (kind === "quit") await store.end(said, holder, { mayReturn: false });
      else if (kind === "enter") await store.enter(membership);
      else if (kind === "leave") await store.leave(membership);
      else {
        // Sessions begin once.
        if (kind === "begin" && claims[at]?.length) continue;
        // One session has no events.
        const connected = kind === "begin" && at !== 1;
        const events = at === 0 ? {} : { events: { profile: `claim ${seen.length}`, connected } };
        const outcome = await store.claim({ ...said, mode: kind, holder, node: "node", ...events });
        seen.push(outcome.kind);
        if (outcome.kind === "held" && kind !== "announce") {
          claims[at]?.unshift({ ...said, claim: outcome.claim, checkedAt: outcome.checkedAt });
        }
      }
    }
    const shown = await store.presence(channel, 100);
    const members = "members" in shown ? shown.members : [];
    seen.push(members.map(({ tenant, connections }) => `${tenant ?? "none"} ${connections}`).toSorted());
    const listed = await Promise.all([...new Set(users.map(identityKey))].map((key) => store.sessionsOf(key)));
    seen.push(
      listed
        .flat()
        .map(({ sessionId }) => ids.indexOf(sessionId))
        .toSorted((a, b) => a - b),
    );
  }
  return seen;
}

test("PRES-2: a session counts once, by its newest claim; memory and Redis agree", async () => {
  const broker = new MemoryBroker(quietErrors);
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 150, size: "max" }), async (steps) => {
      const suffix = randomUUID();
      const memory = await run(new MemorySessionStore(broker, quietErrors), steps, suffix);
      const onRedis = await run(new RedisSessionStore(new Cells(store.connections)), steps, suffix);
      expect(onRedis).toEqual(memory);
      for (const shown of memory) {
        if (Array.isArray(shown)) for (const line of shown) expect(["none 3", "acme 3"]).not.toContain(line);
      }
    }),
    { numRuns: 80 },
  );
});
