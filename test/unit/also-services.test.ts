/** Events with several services: what is stored, what counts, and when the event is stored. */
import { expect, test } from "vitest";
import { createGatewayMetrics } from "../../gateway/metrics/metrics.ts";
import type { GatewayContext } from "../../gateway/node/context.ts";
import { enqueue } from "../../gateway/requests/enqueue.ts";
import { itemsOf, type StorableEvent, storeEvent, wasStored } from "../../gateway/requests/store-event.ts";
import type { Enqueued, QueueStore } from "../../shared/queues/contract.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { WaitingQuota } from "../../shared/queues/quota.ts";
import type { RouteRule } from "../../shared/rules/schema.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { bareSession } from "../support/bare-session.ts";

const route: RouteRule = { event: "doc.edit", service: "documents", path: "/", mode: "enqueue", also: ["audit"] };
const event: StorableEvent = {
  identity: { user: "ada", sessionId: "s", claims: {} },
  event: "doc.edit",
  route,
  key: "k",
  class: "messages",
  id: "one",
  dedupes: "in its queue",
  source: "/tidegate/socket",
  data: "1",
};

function contextOf(queues: Partial<QueueStore>, limit = 100): GatewayContext {
  const waiting = async (tenant: string): Promise<number> => queues.waiting?.(tenant, ["messages"]) ?? 0;
  const tenant = new WaitingQuota({ limit: () => limit, waiting });
  const currentRules = { rules: { classes: new Map() } };
  const metrics = createGatewayMetrics(new Metrics());
  return { queues, quotas: { tenant }, currentRules, sessionStore: { now: () => 0 }, metrics } as never;
}

test("ENQ-6: an event is stored once each of its services has it", async () => {
  const services = { documents: Promise.withResolvers<Enqueued>(), audit: Promise.withResolvers<Enqueued>() };
  const context = contextOf({ enqueue: ({ queue }) => services[queue.service as keyof typeof services].promise });
  let isStored = false;
  const stored = storeEvent(event, context).finally(() => (isStored = true));
  services.documents.resolve({ kind: "stored", sequence: "1" });
  await new Promise(setImmediate);
  expect(isStored).toBe(false);
  services.audit.resolve({ kind: "duplicate" });
  expect(await stored).toEqual({ kind: "stored", sequence: "1" });
});

test("ENQ-6: an event that one of its services does not get fails, once nothing of it is under way", async () => {
  const services = { documents: Promise.withResolvers<Enqueued>(), audit: Promise.withResolvers<Enqueued>() };
  const context = contextOf({ enqueue: ({ queue }) => services[queue.service as keyof typeof services].promise });
  let hasFailed = false;
  const stored = storeEvent(event, context).finally(() => (hasFailed = true));
  services.audit.reject(new Error("Redis is away"));
  await new Promise(setImmediate);
  expect(hasFailed).toBe(false);
  services.documents.resolve({ kind: "stored", sequence: "1" });
  await expect(stored).rejects.toThrow("Redis is away");
});

test("ENQ-6: where storing throws for a later service, the event fails once all is settled", async () => {
  const documents = Promise.withResolvers<Enqueued>();
  const context = contextOf({
    enqueue: ({ queue }) => {
      if (queue.service === "audit") throw new Error("a bug");
      return documents.promise;
    },
  });
  let hasFailed = false;
  const stored = storeEvent(event, context).finally(() => (hasFailed = true));
  await new Promise(setImmediate);
  expect(hasFailed).toBe(false);
  documents.resolve({ kind: "stored", sequence: "1" });
  await expect(stored).rejects.toThrow("a bug");
});

test("ENQ-7: a repeat needs room while one of its services does not have it", async () => {
  const store = new MemoryQueueStore();
  const context = contextOf(store);
  const [first, second] = itemsOf(event, 0);
  for (const item of [first, second]) {
    expect(await wasStored(event, context)).toBe(false);
    if (item) await store.enqueue(item);
  }
  expect(await wasStored(event, context)).toBe(true);
});

test("ENQ-7: an event counts once for each of its services", async () => {
  const store = new MemoryQueueStore();
  const session = bareSession("s");
  const given = { event: "doc.edit", data: { text: "1", bytes: 1 }, options: {}, route };
  const context = contextOf(store, 3);
  expect(await enqueue(session, given, context)).toMatchObject({ queued: true });
  await expect(enqueue(session, given, context)).rejects.toMatchObject({ code: "rate_limited" });
  session.dispose();
});
