/** Delivers what was claimed from one queue: one request to the service, and the settlement that its answer asks for. */
import { type Claimed, leaseMs, type QueueStore, type Settlement } from "../../shared/queues/contract.ts";
import type { ItemHead } from "../../shared/queues/item-head.ts";
import type { QueuePolicy } from "../../shared/rules/rules.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";
import { type Delivery, deliveryOf, type DeliveryError, judge, retryDelayMs } from "./delivery.ts";
import type { DueRetries } from "./due-retries.ts";
import type { HeldLease } from "./held-leases.ts";
import type { ServiceState } from "./service-states.ts";
import type { ReportStoreFailure } from "./store-failure.ts";

/** After a failed settlement. */
const storeRetryMs = 250;
/** Delay of an item whose service has gone, or whose endpoint was paused, since it was claimed. Nothing is claimed for them meanwhile. */
const absentMs = 250;
const maxFailureMessage = 1_024;

/** `postponed`: no attempt was used up. `stale`: the lease had ended. */
export type DispatchOutcome = "done" | "retried" | "postponed" | "failed" | "stale";

export interface DelivererOptions {
  store: QueueStore;
  policy: (head: ItemHead) => QueuePolicy;
  /** Never rejects for what a service does. @param isHeld false: another dispatcher may have the item, and it must not be sent any more */
  send: (service: string, delivery: Delivery, isHeld: () => boolean) => Promise<ServiceAnswer>;
  onOutcome: (className: string, service: string, outcome: DispatchOutcome) => void;
  /** Called when an item is tried for the first time. `ageMs`: since it was stored. */
  onFirstAttempt: (ageMs: number) => void;
  retries: DueRetries;
  random: () => number;
  report: ReportStoreFailure;
  logger: Logger;
}

export class Deliverer {
  readonly #options: DelivererOptions;

  constructor(options: DelivererOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the lease is settled, or lost.
   * @param state of the service whose worker is taken; undefined: since the claim was sent, the service has gone, or its endpoint was paused or has
   * no free place any more
   */
  async deliver(held: HeldLease, claimed: Claimed, state: ServiceState | undefined): Promise<void> {
    const { policy: policyOf, onFirstAttempt } = this.#options;
    const { attempts } = claimed;
    const delivery = deliveryOf(claimed, policyOf);
    if (!delivery) {
      const error = { code: "invalid_request", message: "this version cannot read the item" };
      return this.#fail(held, claimed, undefined, { error, attempts });
    }
    const { policy, items } = delivery;
    // Earlier dispatchers crashed, or the rules allow fewer attempts than before. An item that crashes dispatchers must not be retried for ever.
    if (attempts >= policy.attempts && policy.onFailure !== "block") {
      const message = `${attempts} attempts were made, and the rules allow ${policy.attempts}; the last error is not known`;
      const error = { code: "upstream_unavailable", message };
      return this.#fail(held, claimed, delivery, { error, attempts });
    }
    // This process was frozen: another one may have delivered the item, and later ones.
    if (hasExpired(held)) return this.#delay(held, { attempts, delayMs: 0 }, "postponed");
    const { service } = claimed.lease.queue;
    if (!state) return this.#delay(held, { attempts, delayMs: absentMs }, "postponed");
    if (attempts === 0 && !state.isOutside) onFirstAttempt(Math.max(0, claimed.claimedAt - delivery.head.at));
    const from = performance.now();
    state.begin(from);
    const { inFlight } = state;
    let answer: ServiceAnswer | undefined;
    try {
      answer = await this.#options.send(service, delivery, () => !held.lost && !hasExpired(held));
    } finally {
      learn(state, answer, { from, inFlight });
    }
    const verdict = judge(answer, {
      items: items.length,
      isBatch: policy.batch > 1,
      isOutside: state.isOutside,
    });
    switch (verdict.kind) {
      case "done": {
        if (verdict.count > 0) {
          // Not returned: that would take three microtasks more.
          await this.#settle(held, { kind: "done", done: verdict.count }, "done");
          return;
        }
        // It accepted none of them.
        const error = { code: "upstream_rejected", message: "the service accepted no item of the batch" };
        return this.#tryAgain(held, claimed, delivery, { error, counts: true });
      }
      case "retry":
        return this.#tryAgain(held, claimed, delivery, {
          error: verdict.error,
          counts: verdict.counts && !state.circuit.isSilent,
          ...(verdict.afterMs !== undefined && { afterMs: verdict.afterMs }),
        });
      case "failed":
        return this.#fail(held, claimed, delivery, { error: verdict.error, attempts: attempts + 1 });
    }
  }

  async #tryAgain(
    held: HeldLease,
    claimed: Claimed,
    delivery: Delivery,
    { error, counts, afterMs }: { error: DeliveryError; counts: boolean; afterMs?: number },
  ): Promise<void> {
    const { policy } = delivery;
    const { random } = this.#options;
    const attempts = claimed.attempts + (counts ? 1 : 0);
    const isLast = counts && attempts >= policy.attempts;
    if (isLast && policy.onFailure !== "block") return this.#fail(held, claimed, delivery, { error, attempts });
    const backoffMs = isLast ? policy.maxMs : retryDelayMs(policy, Math.max(1, attempts), random);
    return this.#delay(held, { attempts, delayMs: afterMs ?? backoffMs }, counts ? "retried" : "postponed");
  }

  /** No further attempt helps, or none is left. */
  async #fail(
    held: HeldLease,
    claimed: Claimed,
    delivery: Delivery | undefined,
    { error, attempts }: { error: DeliveryError; attempts: number },
  ): Promise<void> {
    const onFailure = delivery?.policy.onFailure ?? "skip";
    const [item] = claimed.items;
    if (onFailure === "block" && delivery) {
      return this.#delay(held, { attempts, delayMs: delivery.policy.maxMs }, "retried");
    }
    this.#options.logger.warn(
      { ...held.lease.queue, class: held.lease.class, sequence: item.sequence, attempts, lastError: error },
      onFailure === "park" ? "an item failed: its queue is parked" : "an item failed: it is a dead letter",
    );
    if (onFailure === "park") return this.#settle(held, { kind: "park", done: 0 }, "failed");
    const lastError = { ...error, message: error.message.slice(0, maxFailureMessage) };
    const failure = JSON.stringify({ attempts, event: delivery?.head.event, id: delivery?.head.id, lastError });
    return this.#settle(held, { kind: "dead", done: 0, failure }, "failed");
  }

  async #delay(
    held: HeldLease,
    { attempts, delayMs }: { attempts: number; delayMs: number },
    outcome: DispatchOutcome,
  ): Promise<void> {
    this.#options.retries.expect(held.lease.slot, delayMs);
    return this.#settle(held, { kind: "retry", done: 0, attempts, delayMs }, outcome);
  }

  /** Tries until the store takes it, or the lease must have ended: then the item is delivered again. */
  async #settle(held: HeldLease, settlement: Settlement, outcome: DispatchOutcome): Promise<void> {
    const { store, onOutcome, report } = this.#options;
    const { lease } = held;
    while (!held.lost) {
      try {
        const settling = store.settle(lease, settlement);
        // The next claim is sent together with the settlement, behind it.
        held.worker.release();
        const settled = await settling;
        onOutcome(lease.class, lease.queue.service, settled ? outcome : "stale");
        return;
      } catch (error) {
        report(error, "a delivery could not be settled");
        if (hasExpired(held)) break;
        await new Promise((resolve) => setTimeout(resolve, storeRetryMs));
      }
    }
    onOutcome(lease.class, lease.queue.service, "stale");
  }
}

/** Whether the lease must have ended, if its store kept running. */
function hasExpired({ heldSince }: HeldLease): boolean {
  return performance.now() - heldSince > leaseMs;
}

/** Adapts the limit of the service to the answer of a request that has ended. @param answer undefined: a bug of ours ended the request */
function learn(
  state: ServiceState,
  answer: ServiceAnswer | undefined,
  { from, inFlight }: { from: number; inFlight: number },
): void {
  const now = performance.now();
  const pace = answer && paceOf(answer);
  if (pace === "overloaded") state.limit.overloaded(now);
  else if (pace === "fine") state.limit.succeeded(now - from, inFlight, now);
  state.end(pace && now - from, now);
}

/** What an answer says about the number of requests at once; undefined: nothing, because the request was not sent or failed for a local reason. */
function paceOf(answer: ServiceAnswer): "fine" | "overloaded" | undefined {
  switch (answer.kind) {
    case "busy":
    case "circuit_open":
      return undefined;
    case "unreachable":
      return answer.fault === "own" ? undefined : "overloaded";
    case "unanswered":
      return "overloaded";
    case "answered":
      return answer.status === 429 || answer.status >= 500 ? "overloaded" : "fine";
    case "unreadable":
    case "answer_too_large":
      return "fine";
  }
}
