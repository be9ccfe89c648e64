/**
 * Takes items off keyed queues and delivers them to services. Several dispatchers share the queues: each claims what it has free
 * workers for, and a lease keeps others from the queue until the delivery is settled.
 */
import type { ClaimReply, ClaimRequest, Claimed, Lease, QueueStore, Settlement } from "../../shared/queues/contract.ts";
import { leaseMs } from "../../shared/queues/contract.ts";
import type { ItemHead } from "../../shared/queues/item-head.ts";
import type { QueuePolicy } from "../../shared/rules/rules.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";
import { type Delivery, deliveryOf, type DeliveryError, judge, retryDelayMs } from "./delivery.ts";
import { ReadyLanes } from "./ready-lanes.ts";
import { ServiceState } from "./service-state.ts";
import type { Workers } from "./workers.ts";

/** Leases and delays of dispatchers that are gone are looked for this often. */
const sweepMs = leaseMs / 2;
const extendMs = leaseMs / 3;
/** After a failed claim or settlement. */
const storeRetryMs = 250;
/** Retries that are due together are made ready together. */
const promoteEveryMs = 20;
/** Of a batch, items of one queue that are claimed at most. */
const maxBatch = 100;
const maxFailureMessage = 1_024;

export type DispatchOutcome = "done" | "retried" | "postponed" | "failed" | "stale";

export interface DispatcherOptions {
  store: QueueStore;
  workers: Workers;
  /** Undefined: the rules in force have no such service; its items wait. */
  service: (name: string) => { maxInFlight: number; maxBatch: number } | undefined;
  policy: (head: ItemHead) => QueuePolicy;
  /** Never rejects for what a service does. */
  send: (service: string, delivery: Delivery) => Promise<ServiceAnswer>;
  onOutcome: (className: string, service: string, outcome: DispatchOutcome) => void;
  /** For deliveries under way when the dispatcher stops. */
  stopMs: number;
  errors: ContainedErrors;
  logger: Logger;
  random?: () => number;
}

interface Work {
  readonly lease: Lease;
  readonly attempts: number;
  /** By `performance.now()`. */
  heldSince: number;
  lost: boolean;
}

export class Dispatcher implements Service {
  readonly #options: DispatcherOptions;
  readonly #store: QueueStore;
  readonly #workers: Workers;
  readonly #random: () => number;
  readonly #ready = new ReadyLanes();
  readonly #services = new Map<string, ServiceState>();
  readonly #work = new Set<Work>();
  /** Slots with retries that this dispatcher has delayed → when the next one is due, by `performance.now()`. */
  readonly #dueAt = new Map<number, number>();
  #timers: NodeJS.Timeout[] = [];
  #promoteTimer: NodeJS.Timeout | undefined;
  #pumpTimer: NodeJS.Timeout | undefined;
  #pumpScheduled = false;
  #claiming = false;
  #stopping = false;
  #whenIdle: (() => void) | undefined;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#workers = options.workers;
    this.#random = options.random ?? Math.random;
  }

  /** Deliveries under way. */
  get inFlight(): number {
    return this.#work.size;
  }

  async start(): Promise<void> {
    const { errors } = this.#options;
    this.#store.listen({
      onReady: errors.guarded("store", (ready) => {
        this.#ready.add(ready);
        this.#pump();
      }),
      onRestored: errors.guarded("store", () => this.#readAll()),
    });
    this.#timers = [errors.every(extendMs, () => this.#extend()), errors.every(sweepMs, () => this.#sweep())];
    await this.#sweep();
  }

  /** Claims nothing more, waits for what is under way, and gives up the leases of the rest. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#work.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#whenIdle = resolve;
      const timer = setTimeout(resolve, this.#options.stopMs);
      await promise;
      clearTimeout(timer);
    }
    for (const timer of this.#timers) clearInterval(timer);
    clearTimeout(this.#promoteTimer);
    clearTimeout(this.#pumpTimer);
    const left = [...this.#work].filter(({ lost }) => !lost);
    await Promise.allSettled(
      left.map(async (work) => {
        work.lost = true;
        const { lease, attempts } = work;
        await this.#store.settle(lease, { kind: "retry", done: 0, attempts, delayMs: 0 }, "");
      }),
    );
  }

  /** Once for all that happens in this turn of the event loop. */
  #pump(): void {
    if (this.#pumpScheduled || this.#stopping) return;
    this.#pumpScheduled = true;
    setImmediate(() => {
      this.#pumpScheduled = false;
      this.#options.errors.contain("store", () => this.#claim());
    });
  }

  #pumpIn(ms: number): void {
    clearTimeout(this.#pumpTimer);
    this.#pumpTimer = setTimeout(() => this.#pump(), ms);
  }

  async #claim(): Promise<void> {
    if (this.#claiming || this.#stopping) return;
    const now = performance.now();
    const requests = this.#ready.choose({
      free: (name, attempt) => this.#workers.free(name, attempt),
      capacity: (service) => this.#stateOf(service)?.capacity(now) ?? 0,
      batch: (service) => Math.min(maxBatch, this.#options.service(service)?.maxBatch ?? 1),
    });
    if (requests.length === 0) {
      this.#pumpAtProbe(now);
      if (this.#ready.size === 0 && !this.#ready.complete) this.#readAll();
      return;
    }
    this.#claiming = true;
    try {
      this.#begin(requests, await this.#store.claim(requests));
    } catch (error) {
      this.#report(error, "queues could not be claimed");
      this.#pumpIn(storeRetryMs);
      return;
    } finally {
      this.#claiming = false;
    }
    this.#pump();
  }

  /** While a circuit is open its next probe is due some time. */
  #pumpAtProbe(now: number): void {
    const waits = [...this.#services.values()]
      .filter(({ circuit }) => circuit.isOpen)
      .map(({ circuit }) => circuit.waitMs(now))
      .filter((waitMs) => Number.isFinite(waitMs));
    if (waits.length > 0) this.#pumpIn(Math.min(...waits) + 1);
  }

  #begin(requests: readonly ClaimRequest[], replies: readonly ClaimReply[]): void {
    for (const [index, request] of requests.entries()) {
      const reply = replies[index];
      if (!reply?.more) this.#ready.remove(request);
      for (const claimed of reply?.claimed ?? []) {
        this.#workers.take(request.class, request.attempt);
        const work: Work = {
          lease: claimed.lease,
          attempts: claimed.attempts,
          heldSince: performance.now(),
          lost: false,
        };
        this.#work.add(work);
        void this.#deliver(work, claimed)
          .catch((error: unknown) => this.#options.errors.report("store", error))
          .finally(() => {
            this.#work.delete(work);
            this.#workers.release(request.class, request.attempt);
            if (this.#work.size === 0) this.#whenIdle?.();
            this.#pump();
          });
      }
    }
  }

  async #deliver(work: Work, claimed: Claimed): Promise<void> {
    const { service } = claimed.lease.queue;
    const delivery = deliveryOf(claimed, this.#options.policy);
    if (!delivery) {
      const error = { code: "invalid_request", message: "the item was not written by this version" };
      return this.#fail(work, claimed, undefined, { error, attempts: claimed.attempts });
    }
    const { policy, items } = delivery;
    // A worker that ends with each item it is given must not do so for ever.
    if (claimed.attempts >= policy.attempts && policy.onFailure !== "block") {
      const error = { code: "upstream_unavailable", message: "every attempt ended without an answer" };
      return this.#fail(work, claimed, delivery, { error, attempts: claimed.attempts });
    }
    const state = this.#stateOf(service);
    if (!state)
      return this.#settle(work, { kind: "retry", done: 0, attempts: claimed.attempts, delayMs: policy.maxMs }, "");
    const answer = await this.#send(state, service, delivery);
    const verdict = judge(answer, { items: items.length, isBatch: policy.batch > 1 });
    switch (verdict.kind) {
      case "done": {
        const last = items[verdict.count - 1];
        if (last) return this.#settle(work, { kind: "done", done: verdict.count }, last.sequence, "done");
        // It accepted none of them.
        const error = { code: "upstream_rejected", message: "the service accepted no item of the batch" };
        return this.#tryAgain(work, claimed, delivery, { error, counts: true });
      }
      case "retry":
        return this.#tryAgain(work, claimed, delivery, {
          error: verdict.error,
          counts: verdict.counts && !state.circuit.isOpen,
          ...(verdict.afterMs !== undefined && { afterMs: verdict.afterMs }),
        });
      case "failed":
        return this.#fail(work, claimed, delivery, { error: verdict.error, attempts: claimed.attempts + 1 });
    }
  }

  async #send(state: ServiceState, service: string, delivery: Delivery): Promise<ServiceAnswer> {
    state.inFlight++;
    const { inFlight, circuit, limit } = state;
    circuit.begin();
    const from = performance.now();
    try {
      const answer = await this.#options.send(service, delivery);
      const now = performance.now();
      if (answer.kind === "busy") circuit.cancelled();
      else if (answer.kind === "unreachable" || answer.kind === "unanswered") {
        circuit.failed(now);
        limit.overloaded(now);
      } else if (answer.kind === "answered" && answer.status >= 500) {
        // A 503 with Retry-After comes from a service that works.
        if (answer.status === 503 && answer.retryAfterMs !== undefined) circuit.succeeded(now);
        else circuit.failed(now);
        limit.overloaded(now);
      } else {
        circuit.succeeded(now);
        if (answer.kind === "answered" && answer.status === 429) limit.overloaded(now);
        else limit.succeeded(now - from, inFlight, now);
      }
      return answer;
    } finally {
      state.inFlight--;
    }
  }

  async #tryAgain(
    work: Work,
    claimed: Claimed,
    delivery: Delivery,
    { error, counts, afterMs }: { error: DeliveryError; counts: boolean; afterMs?: number },
  ): Promise<void> {
    const { policy } = delivery;
    const attempts = claimed.attempts + (counts ? 1 : 0);
    if (counts && attempts >= policy.attempts && policy.onFailure !== "block") {
      return this.#fail(work, claimed, delivery, { error, attempts });
    }
    const delayMs = afterMs ?? retryDelayMs(policy, Math.max(1, attempts), this.#random);
    this.#expectDue(work.lease.slot, delayMs);
    await this.#settle(work, { kind: "retry", done: 0, attempts, delayMs }, "", counts ? "retried" : "postponed");
  }

  async #fail(
    work: Work,
    claimed: Claimed,
    delivery: Delivery | undefined,
    { error, attempts }: { error: DeliveryError; attempts: number },
  ): Promise<void> {
    const onFailure = delivery?.policy.onFailure ?? "skip";
    const [item] = claimed.items;
    if (onFailure === "block" && delivery) {
      const delayMs = delivery.policy.maxMs;
      this.#expectDue(work.lease.slot, delayMs);
      return this.#settle(work, { kind: "retry", done: 0, attempts, delayMs }, "", "retried");
    }
    this.#options.logger.warn(
      { ...work.lease.queue, class: work.lease.class, sequence: item.sequence, attempts, err: error },
      onFailure === "park" ? "an item failed: its queue is parked" : "an item failed: it is a dead letter",
    );
    if (onFailure === "park") return this.#settle(work, { kind: "park", done: 0 }, "", "failed");
    const lastError = { ...error, message: error.message.slice(0, maxFailureMessage) };
    const failure = JSON.stringify({ attempts, event: delivery?.head.event, id: delivery?.head.id, lastError });
    return this.#settle(work, { kind: "dead", done: 0, failure }, item.sequence, "failed");
  }

  /** Tries until the store takes it, or the lease must have ended: the item comes again then. */
  async #settle(work: Work, settlement: Settlement, previous: string, outcome?: DispatchOutcome): Promise<void> {
    const { lease } = work;
    while (!work.lost) {
      try {
        const held = await this.#store.settle(lease, settlement, previous);
        if (!held || outcome)
          this.#options.onOutcome(lease.class, lease.queue.service, held && outcome ? outcome : "stale");
        return;
      } catch (error) {
        this.#report(error, "a delivery could not be settled");
        if (performance.now() - work.heldSince > leaseMs) break;
        await new Promise((resolve) => setTimeout(resolve, storeRetryMs));
      }
    }
    this.#options.onOutcome(lease.class, lease.queue.service, "stale");
  }

  async #extend(): Promise<void> {
    const now = performance.now();
    const held = [...this.#work].filter(({ heldSince, lost }) => !lost && now - heldSince >= extendMs);
    if (held.length === 0) return;
    try {
      const kept = await this.#store.extend(held.map(({ lease }) => lease));
      for (const [index, work] of held.entries()) {
        if (kept[index]) work.heldSince = now;
        else work.lost = true;
      }
    } catch (error) {
      this.#report(error, "leases could not be extended");
    }
  }

  #expectDue(slot: number, delayMs: number): void {
    const dueAt = performance.now() + delayMs;
    const known = this.#dueAt.get(slot);
    if (known === undefined || dueAt < known) this.#dueAt.set(slot, dueAt);
    this.#schedulePromotion();
  }

  #schedulePromotion(): void {
    clearTimeout(this.#promoteTimer);
    if (this.#dueAt.size === 0 || this.#stopping) return;
    const waitMs = Math.max(promoteEveryMs, Math.min(...this.#dueAt.values()) - performance.now());
    this.#promoteTimer = setTimeout(
      () => this.#options.errors.contain("store", () => this.#promote()),
      Math.min(waitMs, sweepMs),
    );
  }

  async #promote(): Promise<void> {
    const now = performance.now();
    const due = [...this.#dueAt].filter(([, dueAt]) => dueAt <= now).map(([slot]) => slot);
    for (const slot of due) this.#dueAt.delete(slot);
    try {
      const nextMs = due.length > 0 ? await this.#store.promote(due) : undefined;
      // It is due in one of these slots: which one does not matter.
      if (nextMs !== undefined) for (const slot of due) this.#dueAt.set(slot, now + nextMs);
    } catch (error) {
      this.#report(error, "retries could not be made ready");
      for (const slot of due) this.#dueAt.set(slot, now + storeRetryMs);
    }
    this.#schedulePromotion();
  }

  async #sweep(): Promise<void> {
    try {
      await this.#store.promote();
      const { lanes, complete } = await this.#store.ready();
      this.#ready.complete = complete;
      for (const ready of lanes) this.#ready.add(ready);
      this.#pump();
    } catch (error) {
      this.#report(error, "expired leases could not be looked for");
    }
  }

  #readAll(): void {
    this.#options.errors.contain("store", () => this.#sweep());
  }

  #stateOf(name: string): ServiceState | undefined {
    const service = this.#options.service(name);
    if (!service) return undefined;
    const known = this.#services.get(name);
    if (known?.maxInFlight === service.maxInFlight) return known;
    const state = new ServiceState(service.maxInFlight, this.#random);
    // Requests under way count on: theirs end in the state before.
    this.#services.set(name, state);
    return state;
  }

  /** A store that cannot be reached is an expected failure. */
  #report(error: unknown, message: string): void {
    if (error instanceof TidegateError) this.#options.logger.debug({ err: error }, message);
    else this.#options.errors.report("store", error);
  }
}
