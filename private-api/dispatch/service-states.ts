/** What a dispatcher knows of the services: how many requests each takes, and whether it answers. Pure. */
import type { TokenBucket } from "../../shared/runtime/token-bucket.ts";
import type { Circuit } from "../../shared/services/circuit.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";
import { Occupancy } from "./occupancy.ts";

/** A service of the rules in force. */
export interface KnownService {
  /** Services with the same one share their state; without it each has its own. */
  stateName?: string;
  maxInFlight: number;
  /** Items of one queue that one request carries. */
  maxBatch: number;
  /** Learns from every request to the service, of calls too. */
  circuit: Circuit;
  /** Bounds its requests in any second; its owner takes the tokens. */
  rate?: Pick<TokenBucket, "waitMs" | "tokens">;
  /** A URL outside: every answer but a 2xx is retried, and its pace says nothing of how busy this process is. */
  isOutside?: boolean;
}

export class ServiceState {
  readonly circuit: Circuit;
  readonly limit: AdaptiveLimit;
  readonly maxInFlight: number;
  readonly rate: KnownService["rate"];
  readonly isOutside: boolean;
  readonly #requests: Occupancy;

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
    if (this.circuit.isOpen) return 1;
    const places = this.limit.limit - this.inFlight;
    return this.rate ? Math.min(places, Math.floor(this.rate.tokens(nowMs))) : places;
  }

  /** Ms until it may be sent a request, as far as that is known. Infinity: a probe is under way. */
  waitMs(nowMs: number): number {
    return Math.max(this.circuit.waitMs(nowMs), this.rate?.waitMs(nowMs) ?? 0);
  }

  get inFlight(): number {
    return this.#requests.taken;
  }

  /** A request begins (1) or ends (−1). */
  change(by: 1 | -1, nowMs: number): void {
    this.#requests.change(by, nowMs);
  }

  /** Since the last call, the mean share of `maxInFlight` in use. */
  inUse(nowMs: number): number {
    return this.#requests.mean(nowMs) / this.maxInFlight;
  }
}

export class ServiceStates {
  readonly #find: (name: string) => KnownService | undefined;
  readonly #states = new Map<string, ServiceState>();

  /** @param find undefined: the rules in force have no such service; its items wait */
  constructor(find: (name: string) => KnownService | undefined) {
    this.#find = find;
  }

  of(name: string): ServiceState | undefined {
    const service = this.#find(name);
    if (!service) return undefined;
    const { stateName = name, maxInFlight, circuit, rate } = service;
    const known = this.#states.get(stateName);
    if (known?.maxInFlight === maxInFlight && known.circuit === circuit && known.rate === rate) return known;
    // Requests under way end in the state before.
    const state = new ServiceState(service, performance.now());
    this.#states.set(stateName, state);
    return state;
  }

  maxBatch(name: string): number {
    return this.#find(name)?.maxBatch ?? 1;
  }

  /** Since the last call, the mean share of places in use of the service that is fullest. */
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

  /** Ms until one of these services may be sent a request; undefined: none waits for that. */
  nextMs(names: Iterable<string>, nowMs: number): number | undefined {
    let nextMs = Infinity;
    for (const name of names) {
      const waitMs = this.of(name)?.waitMs(nowMs) ?? 0;
      if (waitMs > 0) nextMs = Math.min(nextMs, waitMs);
    }
    return nextMs === Infinity ? undefined : nextMs;
  }
}
