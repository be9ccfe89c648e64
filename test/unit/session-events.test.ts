/** The way of session events from the session store to the queues, over stores in memory. */
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import type { Enqueued, NewItem } from "../../shared/queues/contract.ts";
import { parseHead } from "../../shared/queues/item-head.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { SessionEvents } from "../../shared/queues/session-events.ts";
import { Rules } from "../../shared/rules/rules.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { MemorySessionStore } from "../../shared/sessions/memory.ts";
import type { SessionEvent } from "../../shared/sessions/contract.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { serviceSecret } from "../support/fleet.ts";

const services = { documents: { url: "http://127.0.0.1:9", secret: serviceSecret } };
const both = { connected: "documents", disconnected: "documents" };

/** Counts what is asked of it, and fails where the test says so. */
class CountingStore extends MemorySessionStore {
  takes = 0;
  settlements = 0;
  settled = 0;
  away = false;
  onTaken = (): unknown => undefined;
  override async takeEvents(): Promise<{ events: SessionEvent[]; nextMs: number | undefined }> {
    this.takes++;
    if (this.away) throw new TidegateError("broker_unavailable", "away");
    const taken = await super.takeEvents();
    this.onTaken();
    return taken;
  }
  override async settleEvents(events: readonly SessionEvent[], options: { last: boolean }): Promise<void> {
    await super.settleEvents(events, options);
    this.settlements++;
    this.settled += events.length;
  }
}

let store: CountingStore;
let items: NewItem[];
let refuses: (item: NewItem) => boolean;
let hooks: Record<string, string>;
let events: SessionEvents;

beforeEach(async () => {
  store = new CountingStore(new MemoryBroker(quietErrors), quietErrors);
  const queues = new MemoryQueueStore();
  items = [];
  refuses = () => false;
  hooks = both;
  events = new SessionEvents({
    store,
    queues: {
      enqueue: async (item): Promise<Enqueued> => {
        if (refuses(item)) throw new TidegateError("broker_unavailable", "away");
        const outcome = await queues.enqueue(item);
        if (outcome.kind === "stored") items.push(item);
        return outcome;
      },
    },
    rules: () => new Rules(1, { services, hooks }),
    onStored: () => undefined,
    errors: quietErrors,
    logger: quietLogger,
  });
  await events.start();
});
afterEach(async () => {
  await events.stop();
});

/** A session that begins and ends at once. */
async function visit(sessionId: string, tenant?: string): Promise<void> {
  const identity = { sessionId, user: `user of ${sessionId}`, ...(tenant !== undefined && { tenant }) };
  const requested = events.requestedFor({ ...identity, claims: { plan: "gold" } }, { node: "node-1", begins: true });
  const request = { ...identity, claim: 0, checkedAt: 0, holder: "h", node: "node-1" };
  const outcome = await store.claim({ ...request, mode: "begin", ...(requested && { events: requested }) });
  const claim = outcome.kind === "held" ? outcome.claim : 0;
  await store.end({ ...identity, claim }, "h", { mayReturn: false, reason: "client" });
  events.expect(identityKey(identity), 0);
}

function said(): string[] {
  return items.map(({ queue, head }) => `${parseHead(head)?.event ?? ""} ${queue.key}`);
}

test("EVT-7: an event has its own path, source and id, and says who the session belongs to", async () => {
  await visit("s1", "acme");
  await eventually(() => items.length === 2);
  const [, item] = items;
  expect(item).toMatchObject({
    queue: { service: "documents", tenant: "acme", key: "s1" },
    class: "messages",
    dedupeId: "disconnected-s1",
  });
  expect(parseHead(item?.head ?? "")).toMatchObject({
    ...{ id: "disconnected-s1", event: "tidegate.disconnected", source: "/tidegate/sessions" },
    ...{ path: "/tidegate/disconnected", user: "user of s1", tenant: "acme", sessionId: "s1" },
  });
  expect(JSON.parse(item?.data ?? "")).toEqual({
    ...{ sessionId: "s1", user: "user of s1", tenant: "acme", claims: { plan: "gold" }, node: "node-1" },
    ...{ at: expect.any(Number) as number, reason: "client" },
  });
});

test("EVT-8: ten thousand sessions that end at once take few calls of the store", async () => {
  for (let i = 0; i < 10_000; i++) await visit(`s${i}`);
  await eventually(() => items.length === 20_000);
  expect(store.takes).toBeLessThan(200);
  expect(store.settlements).toBeLessThanOrEqual(store.takes);
  expect(new Set(said()).size).toBe(20_000);
});

test("EVT-2: where connected could not be stored, disconnected waits for it", async () => {
  refuses = ({ dedupeId }) => dedupeId === "connected-s1";
  await visit("s1");
  await visit("s2");
  await eventually(() => items.length === 2);
  expect(said()).toEqual(["tidegate.connected s2", "tidegate.disconnected s2"]);
  refuses = () => false;
  // Once others may take what this process failed to store.
  await eventually(() => items.length === 4);
  expect(said().slice(2)).toEqual(["tidegate.connected s1", "tidegate.disconnected s1"]);
});

test("EVT-9: events that are due while the store is away follow once it is back", async () => {
  store.away = true;
  await visit("s1");
  await eventually(() => store.takes > 0);
  expect(items).toEqual([]);
  store.away = false;
  await eventually(() => items.length === 2);
});

test("EVT-1: an event that is moved twice is stored once", async () => {
  await visit("s1");
  await eventually(() => store.settled === 2);
  // As where a process ends before it settles the events.
  await visit("s1");
  await eventually(() => store.settled === 4);
  expect(said()).toEqual(["tidegate.connected s1", "tidegate.disconnected s1"]);
});

test("EVT-2: a process that is paused with events leaves them to others: their ids may be forgotten by then", async () => {
  const running = performance.now.bind(performance);
  let pausedMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + pausedMs);
  onTestFinished(() => clock.mockRestore());
  store.onTaken = () => (pausedMs = 900_000);
  await visit("s1");
  await eventually(() => pausedMs > 0);
  await events.stop();
  expect([items, store.settled]).toEqual([[], 0]);
});

test("EVT-1: only a session that begins has a connected", () => {
  const request = (begins: boolean): boolean | undefined =>
    events.requestedFor({ sessionId: "s", user: "u", claims: {} }, { node: "node", begins })?.connected;
  expect([request(true), request(false)]).toEqual([true, false]);
  hooks = { connected: "documents" };
  expect([request(true), request(false)]).toEqual([true, undefined]);
});

test("EVT-8: without hooks a claim says nothing of the session, and no event is looked for", async () => {
  hooks = {};
  await visit("s1");
  expect(store.takes).toBe(0);
});

test("EVT-5: session events are retried for ever while their hook is there; other events of that name are not", () => {
  const rules = new Rules(1, { services, hooks: { connected: "documents" } });
  const policyOf = (event: string, source = "/tidegate/sessions"): string =>
    rules.queuePolicy({ event, source }).onFailure;
  expect(policyOf("tidegate.connected")).toBe("block");
  expect(policyOf("tidegate.disconnected")).toBe("skip");
  expect(policyOf("tidegate.connected", "/tidegate/socket")).toBe("skip");
});
