/**
 * Delivers items of keyed queues to services. Several dispatchers share the queues: each claims what it has free workers for, and a
 * lease keeps the others away from the queue until the delivery is settled.
 */
import { endpointClass } from "../../shared/endpoints/endpoint.ts";
import type {
  Claimed,
  ClaimReply,
  ClaimRequest,
  Enqueued,
  History,
  Lane,
  NewItem,
  QueueStore,
} from "../../shared/queues/contract.ts";
import { leaseMs } from "../../shared/queues/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { type Asked, ClaimRounds } from "./claim-rounds.ts";
import { Deliverer, type DelivererOptions } from "./deliverer.ts";
import { DueRetries } from "./due-retries.ts";
import { type BusyWorker, extendMs, HeldLeases } from "./held-leases.ts";
import { type Offer, ReadyLanes } from "./ready-lanes.ts";
import { SpareWorkers } from "./spare-workers.ts";
import { type KnownService, type ServiceState, ServiceStates } from "./service-states.ts";
import { type ReportStoreFailure, storeFailures } from "./store-failure.ts";
import { UnreachedSlots } from "./unreached-slots.ts";
import type { Workers } from "./workers.ts";

/** How often the dispatcher looks for leases and delays of dispatchers that are gone. */
const sweepMs = leaseMs / 2;
/** Most items of one queue that are claimed for a batch. */
const maxBatch = 100;
/** With this part of the workers busy with endpoints that do not answer soon, what is queued waits for none: claims leave it half of them. */
const maxDoubtful = 1 / 4;
/** For a service that gets no requests now. */
const noOffer: Offer = { capacity: 0, share: Infinity, batch: 1 };

export interface DispatcherOptions extends Pick<
  DelivererOptions,
  "store" | "policy" | "send" | "onOutcome" | "onFirstAttempt" | "logger"
> {
  workers: Workers;
  /** Undefined: the rules in force have no such service; its items wait. */
  service: (name: string) => KnownService | undefined;
  /** For deliveries under way when the dispatcher stops. */
  stopMs: number;
  /** A request to the store has failed for this number of slots. */
  onStoreFailure: (slots: number) => void;
  errors: ContainedErrors;
  random?: () => number;
}

export class Dispatcher implements Service {
  readonly #store: QueueStore;
  readonly #workers: Workers;
  readonly #errors: ContainedErrors;
  readonly #stopMs: number;
  readonly #report: ReportStoreFailure;
  readonly #ready = new ReadyLanes();
  readonly #services: ServiceStates;
  readonly #leases: HeldLeases;
  readonly #retries: DueRetries;
  readonly #deliverer: Deliverer;
  #timers: NodeJS.Timeout[] = [];
  #claimTimer: NodeJS.Timeout | undefined;
  #claimScheduled = false;
  readonly #claims: ClaimRounds;
  readonly #unreached: UnreachedSlots;
  readonly #spare = new SpareWorkers();
  #claiming = false;
  #stopping = false;

  constructor(options: DispatcherOptions) {
    const { store, workers, service, errors, stopMs, random = Math.random, ...others } = options;
    this.#store = store;
    this.#workers = workers;
    this.#errors = errors;
    this.#stopMs = stopMs;
    const report = storeFailures(options);
    this.#report = report;
    const services = new ServiceStates(service);
    this.#services = services;
    this.#leases = new HeldLeases(store, report);
    const retries = new DueRetries(store, errors, report);
    this.#retries = retries;
    this.#deliverer = new Deliverer({ ...others, store, retries, random, report });
    this.#claims = new ClaimRounds({
      store,
      onReply: (request, reply, how) => this.#begin(request, reply, how),
      onFailure: (slots, error) => this.#leaveOut(slots, error, "queues could not be claimed"),
    });
    this.#unreached = new UnreachedSlots(async (slots) => this.#readReady(slots), errors);
  }

  /** Drops the state of a service that is gone. */
  forget(service: string): void {
    this.#services.forget(service);
  }

  /**
   * As {@link QueueStore.enqueue}, for endpoints. If a worker is spare and nothing else waits for the endpoint, the item is leased as it is
   * stored, and its delivery begins without a claim.
   */
  enqueue(item: NewItem, after?: readonly History[]): Promise<Enqueued> {
    const state = this.#takerOf(item);
    if (!state) return this.#store.enqueue(item, after);
    const worker = this.#takeWorker({ class: item.class, attempt: "first" }, state);
    state.coming++;
    const askedAt = performance.now();
    this.#spare.take(askedAt);
    const ended = (claimed: Claimed | undefined): void => {
      state.coming--;
      if (claimed) void this.#deliver(claimed, { heldSince: askedAt, state, worker });
      else worker.release();
      this.#spare.arrived();
    };
    return this.#store.enqueue({ ...item, takesLease: true }, after).then(
      (enqueued) => {
        ended(enqueued.kind === "stored" ? enqueued.claimed : undefined);
        return enqueued;
      },
      (error: unknown) => {
        ended(undefined);
        throw error;
      },
    );
  }

  /** For what is queued for endpoints: see {@link SpareWorkers.next}. Undefined, too, where what is queued is claimed sooner. */
  nextSpare(): Promise<boolean> | undefined {
    if (this.#spare.any) return undefined;
    const workers = this.#workers.count(endpointClass, "first");
    const doubtful = this.#services.doubtful("first", performance.now());
    return doubtful < maxDoubtful * workers ? this.#spare.next() : undefined;
  }

  /** Of the endpoint, if it can take the item now. */
  #takerOf({ class: name, queue: { service } }: NewItem): ServiceState | undefined {
    const isSpare = this.#spare.any && name === endpointClass && this.#workers.free(name, "first") > 0;
    if (this.#stopping || !isSpare || this.#ready.has(name, service)) return undefined;
    const state = this.#services.of(service);
    const now = performance.now();
    // One that may be slow is claimed for: only a part of the workers is for those.
    return state && state.capacity(now) > 0 && state.share(now) === Infinity ? state : undefined;
  }

  /** Deliveries under way. */
  get inFlight(): number {
    return this.#leases.size;
  }

  /** The mean share in use since the last call, of a class's workers or a service's places, whichever is highest. */
  placesInUse(nowMs: number): number {
    return Math.max(this.#workers.inUse(nowMs), this.#services.inUse(nowMs));
  }

  async start(): Promise<void> {
    const errors = this.#errors;
    this.#store.listen({
      onReady: errors.guarded("store", (ready) => {
        this.#ready.add(ready);
        this.claimSoon();
      }),
      onRestored: errors.guarded("store", () => this.#sweepNow()),
    });
    this.#timers = [errors.every(extendMs, () => this.#leases.extend()), errors.every(sweepMs, () => this.#sweep())];
    await this.#sweep();
  }

  /** Claims nothing more, waits for deliveries under way, and gives up all other leases. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#claimTimer);
    this.#unreached.stop();
    // Claims under way still take leases, and so do items that are on their way to the store. Their deliveries have to begin before `drain` waits for them.
    await this.#claims.settled();
    await this.#spare.settled();
    await this.#leases.drain(this.#stopMs);
    for (const timer of this.#timers) clearInterval(timer);
    this.#retries.stop();
    await this.#leases.giveUp();
  }

  /** Looks for work, once for all that happens in this turn of the event loop. Call it when a circuit closes. */
  claimSoon(): void {
    if (this.#claimScheduled || this.#stopping) return;
    this.#claimScheduled = true;
    setImmediate(() => {
      this.#claimScheduled = false;
      this.#errors.contain("store", () => this.#claim());
    });
  }

  #claimIn(ms: number): void {
    clearTimeout(this.#claimTimer);
    if (!this.#stopping) this.#claimTimer = setTimeout(() => this.claimSoon(), ms);
  }

  async #claim(): Promise<void> {
    if (this.#claiming || this.#stopping) return;
    const requests = this.#chooseNext();
    this.#spare.set(this.#workers.free(endpointClass, "first") - queuesForEndpoints(requests));
    if (requests.length === 0) return;
    this.#claiming = true;
    try {
      const late = await this.#claims.run(requests);
      if (late.length > 0) this.#ready.removeSlots(new Set(late.map(({ slot }) => slot)));
    } finally {
      this.#claiming = false;
    }
    this.claimSoon();
  }

  #chooseNext(): ClaimRequest[] {
    const now = performance.now();
    /** Until the first service that waits for its circuit or its rate may get a request. Only lanes with a free worker count. */
    let waitMs = Infinity;
    const requests = this.#ready.choose({
      free: (name, attempt) => this.#workers.free(name, attempt),
      workers: (name, attempt) => this.#workers.count(name, attempt),
      offer: (service, name, attempt, othersWait) => {
        const state = this.#services.of(service);
        if (!state) return noOffer;
        const capacity = state.capacity(now);
        if (capacity <= 0) {
          const ms = state.waitMs(now);
          if (ms > 0) waitMs = Math.min(waitMs, ms);
          return noOffer;
        }
        const areWanted = othersWait || (name === endpointClass && this.#spare.areWanted(now));
        const share = Math.max(1, Math.floor(state.share(now, areWanted) * this.#workers.count(name, attempt)));
        return { capacity, share, batch: Math.min(maxBatch, this.#services.maxBatch(service, state)) };
      },
      doubtful: (name, attempt) => (name === endpointClass ? this.#services.doubtful(attempt, now) : 0),
    });
    if (requests.length > 0) return requests;
    if (waitMs < Infinity) this.#claimIn(waitMs + 1);
    if (this.#ready.size === 0 && !this.#ready.complete) this.#sweepNow();
    return [];
  }

  #begin(request: ClaimRequest, { more, claimed }: ClaimReply, { askedAt, isLate }: Asked): void {
    this.#ready.claimed(request, more);
    // The round has dropped what was known of the slot: read again what else is ready there.
    if (isLate) this.#unreached.add([request.slot]);
    for (const each of claimed) void this.#work(request, each, askedAt);
  }

  /** From the claim to the settlement; the worker is free once the settlement is on its way. */
  async #work(lane: ClaimRequest, claimed: Claimed, heldSince: number): Promise<void> {
    const known = this.#services.of(lane.service);
    // A late reply may bring more than there is room for: its claim did not count when the next ones were chosen.
    const state = known?.isOutside && known.capacity(performance.now()) <= 0 ? undefined : known;
    return this.#deliver(claimed, { heldSince, state, worker: this.#takeWorker(lane, state) });
  }

  async #deliver(
    claimed: Claimed,
    { heldSince, state, worker }: { heldSince: number; state: ServiceState | undefined; worker: BusyWorker },
  ): Promise<void> {
    const held = this.#leases.begin(claimed, heldSince, worker);
    try {
      await this.#deliverer.deliver(held, claimed, state);
    } catch (error) {
      this.#errors.report("store", error);
    } finally {
      this.#leases.end(held);
      worker.release();
    }
  }

  #takeWorker({ class: name, attempt }: Pick<Lane, "class" | "attempt">, state: ServiceState | undefined): BusyWorker {
    this.#workers.take(name, attempt, performance.now());
    this.#services.takeWorker(state, attempt);
    let isBusy = true;
    return {
      release: () => {
        if (!isBusy) return;
        isBusy = false;
        this.#workers.release(name, attempt, performance.now());
        this.#services.releaseWorker(state, attempt);
        this.claimSoon();
      },
    };
  }

  /** Makes queues ready that gone dispatchers have left behind, and reads every ready lane. */
  async #sweep(): Promise<void> {
    let nextMs: number | undefined;
    do {
      // One call promotes a bounded number in each slot, and deliveries of these begin meanwhile.
      const promoted = await this.#store.promote();
      for (const { slots, error } of promoted.unreached) {
        this.#report(error, "sweep of expired leases failed", slots);
      }
      ({ nextMs } = promoted);
    } while (nextMs === 0 && !this.#stopping);
    await this.#readReady();
  }

  async #readReady(asked?: readonly number[]): Promise<void> {
    const { lanes, complete, unreached } = await this.#store.ready(asked);
    if (!asked || !complete) this.#ready.complete = complete;
    for (const ready of lanes) this.#ready.add(ready);
    for (const { slots, error } of unreached) this.#leaveOut(slots, error, "ready queues could not be listed");
    this.claimSoon();
  }

  /** Nothing is claimed from slots that cannot be reached, until their ready queues are known again. */
  #leaveOut(slots: readonly number[], error: unknown, message: string): void {
    this.#report(error, message, slots);
    this.#ready.removeSlots(new Set(slots));
    this.#unreached.add(slots);
  }

  #sweepNow(): void {
    this.#errors.contain("store", () => this.#sweep());
  }
}

/** First attempts that the requests ask for. */
function queuesForEndpoints(requests: readonly ClaimRequest[]): number {
  let queues = 0;
  for (const { class: name, attempt, maxQueues } of requests) {
    if (name === endpointClass && attempt === "first") queues += maxQueues;
  }
  return queues;
}
