/** A dispatcher whose services are a function. */
import type { Delivery } from "../../private-api/dispatch/delivery.ts";
import { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";
import type { NewItem, QueueName, QueueStore } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import { quietErrors, quietLogger } from "./logger.ts";

/** @param work succeeds with a 204 when it resolves. The caller starts and stops the dispatcher. */
export function dispatcherOf(
  store: QueueStore,
  work: (delivery: Delivery) => Promise<void> | void,
  { onStoreFailure = () => undefined }: { onStoreFailure?: (slots: number) => void } = {},
): Dispatcher {
  const circuit = new Circuit();
  const classes = new Map([["messages", { share: 1 }]]);
  return new Dispatcher({
    store,
    workers: new Workers({ total: 16, classes: () => classes }),
    service: () => ({ maxInFlight: 16, maxBatch: 1, circuit }),
    policy: () => ({ attempts: 3, minMs: 1, maxMs: 5, onFailure: "skip", batch: 1 }),
    send: async (_service, delivery) => {
      await work(delivery);
      return { kind: "answered", status: 204, body: Buffer.alloc(0) };
    },
    onOutcome: () => undefined,
    onFirstAttempt: () => undefined,
    onStoreFailure,
    stopMs: 5_000,
    errors: quietErrors,
    logger: quietLogger,
  });
}

/** Its data is the number. */
export function numberedItem(queue: QueueName, n: number): NewItem {
  const about = { event: "edit", source: "/test", path: "/", at: Date.now(), traceparent: "00" };
  const head = formatHead({ id: String(n), ...about }, { user: "u", sessionId: "s", claims: {} });
  return { queue, class: "messages", head, data: String(n) };
}
