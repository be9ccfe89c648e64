/** What a dispatcher knows of one service: how many requests it takes, and whether it answers. Pure. */
import { Circuit } from "../../shared/services/circuit.ts";
import { AdaptiveLimit } from "./adaptive-limit.ts";

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
