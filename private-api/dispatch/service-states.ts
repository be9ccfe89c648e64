/** What a dispatcher knows of the services: how many requests each takes, and whether it answers. Pure. */
import { Circuit } from "../../shared/services/circuit.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";

/** What the rules say of a service. */
export interface ServiceBounds {
  maxInFlight: number;
  /** Items of one queue that one request carries. */
  maxBatch: number;
}

export class ServiceState {
  readonly circuit: Circuit;
  readonly limit: AdaptiveLimit;
  readonly maxInFlight: number;
  inFlight = 0;

  constructor(maxInFlight: number, random: () => number) {
    this.maxInFlight = maxInFlight;
    this.circuit = new Circuit(random);
    this.limit = new AdaptiveLimit(maxInFlight);
  }

  /** Requests that it can be sent now. */
  capacity(nowMs: number): number {
    if (this.circuit.isOpen) return this.circuit.waitMs(nowMs) === 0 ? 1 : 0;
    return this.limit.limit - this.inFlight;
  }
}

export class ServiceStates {
  readonly #bounds: (name: string) => ServiceBounds | undefined;
  readonly #random: () => number;
  readonly #states = new Map<string, ServiceState>();

  /** @param bounds undefined: the rules in force have no such service; its items wait */
  constructor(bounds: (name: string) => ServiceBounds | undefined, random: () => number) {
    this.#bounds = bounds;
    this.#random = random;
  }

  of(name: string): ServiceState | undefined {
    const bounds = this.#bounds(name);
    if (!bounds) return undefined;
    const known = this.#states.get(name);
    if (known?.maxInFlight === bounds.maxInFlight) return known;
    // Requests under way end in the state before.
    const state = new ServiceState(bounds.maxInFlight, this.#random);
    this.#states.set(name, state);
    return state;
  }

  maxBatch(name: string): number {
    return this.#bounds(name)?.maxBatch ?? 1;
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
