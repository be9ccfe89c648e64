/** The run as a series of seconds, and what can be told of it in a few numbers. */
import type { Counters } from "./counters.ts";
import type { Simulation } from "./simulation.ts";
import { tickMs } from "./timers.ts";

const ticksPerSecond = 1_000 / tickMs;

/** Of one second: rates are what happened in it, the others how it stood at its end. */
export interface Second {
  readonly second: number;
  readonly connected: number;
  readonly dials: number;
  readonly letIn: number;
  readonly admitted: number;
  readonly resumed: number;
  readonly authCalls: number;
  readonly refused: number;
  readonly turnedAway: number;
  readonly failed: number;
  readonly fallen: number;
  /** Of the node on which things waited longest, at any moment of the second. */
  readonly worstDelayMs: number;
}

export interface Recording {
  readonly seconds: readonly Second[];
  readonly totals: Readonly<Counters> & { readonly authCalls: number };
  /** In any second, wherever it begins. */
  readonly peakLetInPerSecond: number;
}

export class Recorder {
  readonly #simulation: Simulation;
  readonly #seconds: Second[] = [];
  /** Let in, in each of the last ticks, together one second. */
  readonly #letInByTick = new Uint32Array(ticksPerSecond);
  #letInOfSecond = 0;
  #letInBefore = 0;
  #peakLetIn = 0;
  #worstDelayMs = 0;
  #last: Recording["totals"];

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
    this.#last = this.#totals();
  }

  get recording(): Recording {
    return { seconds: this.#seconds, totals: this.#totals(), peakLetInPerSecond: this.#peakLetIn };
  }

  tick(now: number): void {
    const { counters, nodes } = this.#simulation;
    const place = now % ticksPerSecond;
    const letIn = counters.letIn - this.#letInBefore;
    this.#letInBefore = counters.letIn;
    this.#letInOfSecond += letIn - (this.#letInByTick[place] ?? 0);
    this.#letInByTick[place] = letIn;
    this.#peakLetIn = Math.max(this.#peakLetIn, this.#letInOfSecond);
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
      letIn: totals.letIn - last.letIn,
      admitted: totals.admitted - last.admitted,
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
