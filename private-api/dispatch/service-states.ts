/** What a dispatcher knows of the services: how many requests each takes, and whether it answers. Pure. */
import type { Circuit } from "../../shared/services/circuit.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";
import { Occupancy } from "./occupancy.ts";

/** A service of the rules in force. */
export interface KnownService {
  maxInFlight: number;
  /** Items of one queue that one request carries. */
  maxBatch: number;
  /** Learns from every request to the service, of calls too. */
  circuit: Circuit;
}

export class ServiceState {
  readonly circuit: Circuit;
  readonly limit: AdaptiveLimit;
  readonly maxInFlight: number;
  readonly #requests: Occupancy;

  constructor({ maxInFlight, circuit }: KnownService, nowMs: number) {
    this.#requests = new Occupancy(nowMs);
    this.maxInFlight = maxInFlight;
    this.circuit = circuit;
    this.limit = new AdaptiveLimit(maxInFlight);
  }

  /** Requests that it can be sent now. */
  capacity(nowMs: number): number {
    if (this.circuit.isOpen) return this.circuit.waitMs(nowMs) === 0 ? 1 : 0;
    return this.limit.limit - this.inFlight;
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
    const known = this.#states.get(name);
    if (known?.maxInFlight === service.maxInFlight && known.circuit === service.circuit) return known;
    // Requests under way end in the state before.
    const state = new ServiceState(service, performance.now());
    this.#states.set(name, state);
    return state;
  }

  maxBatch(name: string): number {
    return this.#find(name)?.maxBatch ?? 1;
  }

  /** Since the last call, the mean share of places in use of the service that is fullest. */
  inUse(nowMs: number): number {
    return Math.max(0, ...[...this.#states.values()].map((state) => state.inUse(nowMs)));
  }

  /** Ms until an open circuit may be probed; undefined: none waits for that. */
  nextProbeMs(nowMs: number): number | undefined {
    const waits = [...this.#states.values()]
      .filter(({ circuit }) => circuit.isOpen)
      .map(({ circuit }) => circuit.waitMs(nowMs))
      .filter((waitMs) => Number.isFinite(waitMs));
    return waits.length === 0 ? undefined : Math.min(...waits);
  }
}
