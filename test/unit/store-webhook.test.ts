/** Webhooks with several parts, some of which have no room. */
import { beforeEach, expect, test } from "vitest";
import type { Source } from "../../gateway/hooks/sources.ts";
import { storeWebhook, type StoredWebhook } from "../../gateway/hooks/store-webhook.ts";
import type { JournaledQueues, Storing } from "../../gateway/journal/journaled-queues.ts";
import type { GatewayContext } from "../../gateway/node/context.ts";
import type { StorableEvent } from "../../gateway/requests/store-event.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { WaitingQuota } from "../../shared/queues/quota.ts";
import type { RouteRule } from "../../shared/rules/schema.ts";

const route: RouteRule = { event: "ci.push", service: "hooks", path: "/", mode: "enqueue" };

let queues: MemoryQueueStore;
beforeEach(() => {
  queues = new MemoryQueueStore();
});

interface Given {
  whenFull: "drop" | "refuse";
  perTenant?: number;
  perSource?: number;
  hasJournal?: boolean;
}

function part(tenant: string, id: string): StorableEvent {
  const identity = { user: "/tidegate/hooks/many", sessionId: "s", tenant, claims: {} };
  return {
    ...{ identity, event: "ci.push", route, key: id, class: "messages", id, dedupes: "everywhere" },
    ...{ source: identity.user, hook: "many", data: id },
  };
}

async function store(events: readonly StorableEvent[], given: Given): Promise<StoredWebhook> {
  return storingBy(given)(events);
}

/** Of one gateway. */
function storingBy({ whenFull, perTenant = 3, perSource = 100, hasJournal = false }: Given) {
  const context = {
    queues,
    quotas: {
      tenant: new WaitingQuota({
        limit: () => perTenant,
        waiting: async (tenant) => queues.waiting(tenant, ["messages"]),
      }),
      source: new WaitingQuota({ limit: () => perSource, waiting: async (name) => queues.waitingOfSource(name) }),
    },
    currentRules: { rules: { classes: new Map([["messages", { whenFull }]]) } },
    sessionStore: { now: () => 0 },
  } as unknown as GatewayContext;
  const source = { name: "many", class: "messages", rule: { journal: hasJournal } } as unknown as Source;
  const journal = {
    store: async <Outcome>({ admit, enqueue }: Storing<Outcome>): Promise<Outcome> => (await admit()) ?? enqueue(),
  } as unknown as JournaledQueues;
  return async (events: readonly StorableEvent[]): Promise<StoredWebhook> =>
    storeWebhook(source, events, { context, journal });
}

async function waiting(): Promise<number[]> {
  return Promise.all(["A", "B"].map(async (tenant) => queues.waiting(tenant, ["messages"])));
}

const ofA = ["1", "2", "3", "4", "5"].map((id) => part("A", id));

test.each([false, true])(
  "SRC-11: a class drops only parts of the tenant without room, journal: %s",
  async (hasJournal) => {
    await store(ofA.slice(0, 2), { whenFull: "drop" });
    const events = [part("B", "b1"), ...ofA.slice(2), part("B", "b2")];
    const stored = await store(events, { whenFull: "drop", hasJournal });
    expect(stored).toEqual({ outcome: "accepted", droppedParts: 2 });
    expect(await waiting()).toEqual([3, 2]);
  },
);

test("SRC-11: a class drops the parts past the quota of the source, whatever their tenant", async () => {
  const stored = await store([part("B", "b1"), ...ofA.slice(0, 2)], { whenFull: "drop", perSource: 2 });
  expect(stored).toEqual({ outcome: "accepted", droppedParts: 1 });
  expect(await waiting()).toEqual([1, 1]);
});

test("SRC-11: webhooks that arrive together fill the room of their tenant once", async () => {
  const storing = storingBy({ whenFull: "drop" });
  const webhooks = Array.from({ length: 10 }, (_, at) => ["1", "2", "3", "4", "5"].map((n) => part("A", `${at} ${n}`)));
  const stored = await Promise.all(webhooks.map(storing));
  expect(await waiting()).toEqual([3, 0]);
  expect(stored.reduce((sum, { droppedParts }) => sum + droppedParts, 0)).toBe(47);
});

test("SRC-11: where no part has room the webhook is dropped; a repeat of stored parts is a duplicate", async () => {
  await store(ofA.slice(0, 3), { whenFull: "drop" });
  expect(await store(ofA.slice(3), { whenFull: "drop" })).toEqual({ outcome: "dropped", droppedParts: 2 });
  expect(await store(ofA.slice(0, 3), { whenFull: "drop" })).toEqual({ outcome: "duplicate", droppedParts: 0 });
  expect(await waiting()).toEqual([3, 0]);
});

test("SRC-11: where the class refuses, nothing of the webhook is stored, and its repeat stores all", async () => {
  await store(ofA.slice(0, 3), { whenFull: "refuse" });
  const events = [part("B", "b1"), ...ofA.slice(3)];
  const storing = store(events, { whenFull: "refuse" });
  await expect(storing).rejects.toMatchObject({ code: "rate_limited", message: /this tenant/ });
  expect(await waiting()).toEqual([3, 0]);
  expect(await store(events, { whenFull: "refuse", perTenant: 5 })).toMatchObject({ outcome: "accepted" });
  expect(await waiting()).toEqual([5, 1]);
});

test("SRC-11: more parts of a tenant than its quota are refused for good, with what to change", async () => {
  const message = "has 5 items of one tenant, and quotas.perTenant is 3: raise it, or send fewer parts at once";
  const storing = store(ofA, { whenFull: "refuse" });
  await expect(storing).rejects.toMatchObject({ code: "payload_too_large", message });
});
