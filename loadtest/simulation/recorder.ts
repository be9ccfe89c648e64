/** Records a run second by second. */
import type { Counters } from "./counters.ts";
import { tickMs } from "./timers.ts";

const ticksPerSecond = 1_000 / tickMs;

/** One second: rates count its events, the other values are those at its end. */
export interface Second {
  readonly second: number;
  readonly connected: number;
  readonly dials: number;
  readonly admitted: number;
  readonly welcomed: number;
  readonly resumed: number;
  readonly authCalls: number;
  readonly refused: number;
  readonly turnedAway: number;
  readonly failed: number;
  readonly fallen: number;
  /** The longest delay of any node at any tick of the second. */
  readonly worstDelayMs: number;
}

export interface Recording {
  readonly seconds: readonly Second[];
  readonly totals: Readonly<Counters> & { readonly authCalls: number };
  /** In any window of one second. */
  readonly peakAdmittedPerSecond: number;
}

/** What is recorded of a simulation. */
export interface Recorded {
  readonly counters: Readonly<Counters>;
  readonly nodes: readonly { readonly delayMs: number }[];
  readonly crowd: { readonly connected: number };
  readonly auth: { readonly calls: number };
}

export class Recorder {
  readonly #simulation: Recorded;
  readonly #seconds: Second[] = [];
  /** Admissions of each tick of the last second. */
  readonly #admittedByTick = new Uint32Array(ticksPerSecond);
  #admittedOfSecond = 0;
  #admittedBefore = 0;
  #peakAdmitted = 0;
  #worstDelayMs = 0;
  #last: Recording["totals"];

  constructor(simulation: Recorded) {
    this.#simulation = simulation;
    this.#last = this.#totals();
  }

  get recording(): Recording {
    return { seconds: this.#seconds, totals: this.#totals(), peakAdmittedPerSecond: this.#peakAdmitted };
  }

  tick(now: number): void {
    const { counters, nodes } = this.#simulation;
    const place = now % ticksPerSecond;
    const admitted = counters.admitted - this.#admittedBefore;
    this.#admittedBefore = counters.admitted;
    this.#admittedOfSecond += admitted - (this.#admittedByTick[place] ?? 0);
    this.#admittedByTick[place] = admitted;
    this.#peakAdmitted = Math.max(this.#peakAdmitted, this.#admittedOfSecond);
    for (const node of nodes) this.#worstDelayMs = Math.max(this.#worstDelayMs, node.delayMs);
    if (place === 0) this.#close(now / ticksPerSecond);
  }

  #close(second: number): void {
    const totals = this.#totals();
    const last = this.#last;
    this.#seconds.push({
      second,
      connected: this.#simulation.crowd.connected,
      dials: totals.dials - last.dials,
      admitted: totals.admitted - last.admitted,
      welcomed: totals.welcomed - last.welcomed,
      resumed: totals.resumed - last.resumed,
      authCalls: totals.authCalls - last.authCalls,
      refused: totals.refused - last.refused,
      turnedAway: totals.turnedAway - last.turnedAway,
      failed: totals.failed - last.failed,
      fallen: totals.fallen - last.fallen,
      worstDelayMs: Math.round(this.#worstDelayMs),
    });
    this.#last = totals;
    this.#worstDelayMs = 0;
  }

  #totals(): Recording["totals"] {
    return { ...this.#simulation.counters, authCalls: this.#simulation.auth.calls };
  }
}
