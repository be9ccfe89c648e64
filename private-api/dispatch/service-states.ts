/** What a dispatcher knows of the services: how many requests each takes, and whether it answers. Pure. */
import type { Lane } from "../../shared/queues/contract.ts";
import type { TokenBucket } from "../../shared/runtime/token-bucket.ts";
import type { Circuit } from "../../shared/services/circuit.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";
import { Occupancy } from "./occupancy.ts";

/** An endpoint that takes longer to answer is slow. */
const slowAfterMs = 500;
/**
 * Parts of a class's workers that may be busy with endpoints that are slow, or whose pace is not known yet. While nothing else waits, slow
 * ones get more: the workers that are left can serve other endpoints at once until slow requests end.
 */
const shares = { slow: 1 / 2, slowAlone: 7 / 8, unknown: 3 / 4 };

/** A service of the rules in force, or an endpoint. */
export interface KnownService {
  /** Services with the same one share their state; without it each has its own. */
  stateName?: string;
  maxInFlight: number;
  /** Items of one queue that one request carries; 1 where it is left out. */
  maxBatch?: number;
  /** Learns from every request to the service, of calls too. */
  circuit: Circuit;
  /** When the service may be sent requests, and how many. The owner of the bucket takes the tokens. */
  rate?: Pick<TokenBucket, "waitMs" | "tokens">;
  /** An endpoint: every answer but a 2xx is retried, and its pace says nothing about how busy this process is. */
  isOutside?: boolean;
}

export class ServiceState {
  readonly circuit: Circuit;
  readonly limit: AdaptiveLimit;
  readonly maxInFlight: number;
  readonly rate: KnownService["rate"];
  readonly isOutside: boolean;
  /** Busy with it. */
  readonly workers: Record<Lane["attempt"], number> = { first: 0, retry: 0 };
  /** Requests that follow once their items are stored. */
  coming = 0;
  readonly #requests: Occupancy;
  /** Of the last request; undefined before one has ended. */
  #tookMs: number | undefined;
  /** While requests are under way: when the first of them began, or the last one ended. */
  #changedAt = 0;

  constructor({ maxInFlight, circuit, rate, isOutside = false }: KnownService, nowMs: number) {
    this.#requests = new Occupancy(nowMs);
    this.rate = rate;
    this.isOutside = isOutside;
    this.maxInFlight = maxInFlight;
    this.circuit = circuit;
    this.limit = new AdaptiveLimit(maxInFlight);
  }

  /** Requests that it can be sent now. */
  capacity(nowMs: number): number {
    if (this.waitMs(nowMs) > 0) return 0;
    // The one request need not be a probe, which would keep the next one waiting.
    const taken = this.inFlight + this.coming;
    if (this.circuit.isSilent) return Math.min(1 - this.coming, this.maxInFlight - taken);
    // An endpoint that does not answer takes no further worker.
    if (this.isOutside && this.#isSilent(nowMs)) return 0;
    if (this.isOutside && this.#tookMs === undefined) return 1 - this.inFlight;
    const places = this.limit.limit - taken;
    return this.rate ? Math.min(places, Math.floor(this.rate.tokens(nowMs)) - this.coming) : places;
  }

  /** Ms until it may be sent a request, as far as that is known. Infinity: a probe is under way. */
  waitMs(nowMs: number): number {
    return Math.max(this.circuit.waitMs(nowMs), this.rate?.waitMs(nowMs) ?? 0);
  }

  get inFlight(): number {
    return this.#requests.taken;
  }

  /** A request begins. */
  begin(nowMs: number): void {
    if (this.inFlight === 0) this.#changedAt = nowMs;
    this.#requests.change(1, nowMs);
  }

  /** A request ends. @param tookMs undefined: it was not sent */
  end(tookMs: number | undefined, nowMs: number): void {
    this.#requests.change(-1, nowMs);
    this.#changedAt = nowMs;
    this.#tookMs = tookMs ?? this.#tookMs;
  }

  /** The part of a class's workers that endpoints like it may have together; Infinity: it answers soon, or is not an endpoint. */
  share(nowMs: number, othersWait = true): number {
    if (!this.isOutside) return Infinity;
    if ((this.#tookMs ?? 0) > slowAfterMs) return othersWait ? shares.slow : shares.slowAlone;
    if (this.#isSilent(nowMs)) return shares.slow;
    return this.#tookMs === undefined ? shares.unknown : Infinity;
  }

  #isSilent(nowMs: number): boolean {
    return this.inFlight > 0 && nowMs - this.#changedAt > slowAfterMs;
  }

  /** Since the last call, the mean share of `maxInFlight` in use. */
  inUse(nowMs: number): number {
    return this.#requests.mean(nowMs) / this.maxInFlight;
  }
}

export class ServiceStates {
  readonly #find: (name: string) => KnownService | undefined;
  readonly #states = new Map<string, ServiceState>();
  /** States of endpoints, by the object that describes them, which stays the same until the endpoint changes. Saves look-ups for each delivery. */
  readonly #ofEndpoints = new WeakMap<KnownService, ServiceState>();
  /** Endpoints with busy workers. */
  readonly #busy = new Set<ServiceState>();

  /** @param find undefined: the rules in force have no such service; its items wait */
  constructor(find: (name: string) => KnownService | undefined) {
    this.#find = find;
  }

  of(name: string): ServiceState | undefined {
    const service = this.#find(name);
    if (!service) return undefined;
    const kept = service.isOutside ? this.#ofEndpoints.get(service) : undefined;
    if (kept) return kept;
    const state = this.#stateOf(name, service);
    if (service.isOutside) this.#ofEndpoints.set(service, state);
    return state;
  }

  #stateOf(name: string, service: KnownService): ServiceState {
    const { stateName = name, maxInFlight, circuit, rate } = service;
    const known = this.#states.get(stateName);
    if (known?.maxInFlight === maxInFlight && known.circuit === circuit && known.rate === rate) return known;
    // Requests under way end in the state before.
    const state = new ServiceState(service, performance.now());
    this.#states.set(stateName, state);
    return state;
  }

  /**
   * A worker begins a delivery.
   * @param state undefined: the service is not known. The caller passes the same state to {@link releaseWorker}, once: the name may have another
   * state by then
   */
  takeWorker(state: ServiceState | undefined, attempt: Lane["attempt"]): void {
    if (!state?.isOutside) return;
    if (state.workers.first + state.workers.retry === 0) this.#busy.add(state);
    state.workers[attempt]++;
  }

  releaseWorker(state: ServiceState | undefined, attempt: Lane["attempt"]): void {
    if (!state?.isOutside) return;
    state.workers[attempt]--;
    if (state.workers.first + state.workers.retry === 0) this.#busy.delete(state);
  }

  /** Workers that are busy with endpoints that are slow, or whose pace is not known yet. */
  doubtful(attempt: Lane["attempt"], nowMs: number): number {
    let workers = 0;
    for (const state of this.#busy) if (state.share(nowMs) < Infinity) workers += state.workers[attempt];
    return workers;
  }

  maxBatch(name: string, { isOutside }: ServiceState): number {
    return isOutside ? 1 : (this.#find(name)?.maxBatch ?? 1);
  }

  /** The largest mean share of places in use since the last call, of any service. Endpoints do not count. */
  inUse(nowMs: number): number {
    return Math.max(
      0,
      ...[...this.#states.values()].filter(({ isOutside }) => !isOutside).map((state) => state.inUse(nowMs)),
    );
  }

  /** The service is gone. */
  forget(name: string): void {
    this.#states.delete(name);
  }
}
