/** Keyed queues without gateways and services: items are enqueued here, and a dispatcher delivers them to a function. */
import { createLogger } from "../../shared/runtime/logging.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import type { NewItem, QueueStore } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import { socketSource } from "../../shared/services/cloudevents.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { Delivery } from "../../private-api/dispatch/delivery.ts";
import { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";

const logger = createLogger({ name: "load", level: "warn" });
const errors = new ContainedErrors(logger);
/** About a hundred bytes of what an application sends. */
const data = JSON.stringify({ card: 17, column: "doing", text: "about a hundred bytes of what an application sends" });
const identity = { user: "user-17", sessionId: "7kXv0dQbT2mJ5sUe9aHcRw", claims: {} };
const noBody = Buffer.alloc(0);
const stopWithinMs = 5_000;
/** Of the service: the workers are the bound. */
const maxInFlight = 10_000;

export interface OpenedStore {
  readonly store: QueueStore;
  stop(): Promise<void>;
}

/** A store with connections of its own, as each program has. The caller stops it. */
export async function openStore(redisUrl: string): Promise<OpenedStore> {
  const target = { kind: "standalone", url: redisUrl } as const;
  const connections = new RedisConnections({ target, errors, logger });
  await connections.start();
  const store = new RedisQueueStore(new Cells(connections));
  await store.start();
  return {
    store,
    stop: async () => {
      await store.stop();
      await connections.stop();
    },
  };
}

export interface ItemOptions {
  readonly key: string;
  /** `ce-id`, and `webhookId` of the delivery. */
  readonly id: string;
  readonly tenant?: string;
  readonly class?: string;
}

/** An item as a gateway writes it. */
export function itemOf({ key, id, tenant = "", class: name = "messages" }: ItemOptions): NewItem {
  const about = { event: "card.move", source: socketSource, path: "/moves", at: Date.now() };
  const head = formatHead({ id, ...about, traceparent: newTraceparent() }, identity);
  return { queue: { service: "cards", tenant, key }, class: name, head, data };
}

export interface DispatchOptions {
  readonly workers: Workers;
  /** The work on one item; it succeeds when this resolves. */
  readonly work: (delivery: Delivery, key: string) => Promise<void> | void;
}

/** A fourth of a class's workers is for retries. @returns workers of which `count` make first attempts. */
export function workersForFirstAttempts(count: number): Workers {
  const classes = new Map([["messages", { share: 1 }]]);
  return new Workers({ total: Math.floor((count * 4) / 3), classes: () => classes });
}

/** The dispatcher of a private API, with a function in place of a service. The caller stops it. */
export async function startDispatcher(store: QueueStore, options: DispatchOptions): Promise<Dispatcher> {
  const service = { maxInFlight, maxBatch: 1, circuit: new Circuit() };
  const dispatcher = new Dispatcher({
    store,
    workers: options.workers,
    service: () => service,
    policy: () => ({ attempts: 12, minMs: 500, maxMs: 60_000, onFailure: "skip", batch: 1 }),
    send: async (_service, delivery) => {
      await options.work(delivery, delivery.key);
      return { kind: "answered", status: 200, body: noBody };
    },
    onOutcome: () => undefined,
    onFirstAttempt: () => undefined,
    onStoreFailure: () => undefined,
    stopMs: stopWithinMs,
    errors,
    logger,
  });
  await dispatcher.start();
  return dispatcher;
}
