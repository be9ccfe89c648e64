import type { DrainOrder } from "./link.ts";
import { maxTimerMs } from "./timing.ts";

export interface MoveSteps {
  /** Opens the second connection. */
  open(url: string | undefined): void;
  /** Leaves the first one. */
  complete(): void;
}

/** When a drained connection is exchanged for another one: in its slot, and again until it is done or too late. */
export class Move {
  readonly #steps: MoveSteps;
  #order: DrainOrder | null = null;
  #begun = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Not before that moment, by the gateway's word. */
  #notBeforeMs = 0;

  constructor(steps: MoveSteps) {
    this.#steps = steps;
  }

  /** A second connection was tried. */
  get begun(): boolean {
    return this.#begun;
  }

  /** A newer order replaces the one before; its slot does not count once the move has begun. */
  ordered(order: DrainOrder): void {
    this.#order = order;
    if (!this.#begun) this.#openAt(order.dueAtMs);
  }

  /** The second connection came to nothing. */
  again(delayMs: number, retryAfterMs: number | undefined): void {
    const nowMs = performance.now();
    if (retryAfterMs !== undefined) this.#notBeforeMs = nowMs + retryAfterMs;
    this.#openAt(nowMs + delayMs);
  }

  /** The second connection is welcomed: from now on there is only the deadline. */
  welcomed(): void {
    const deadlineAtMs = this.#order?.deadlineAtMs ?? 0;
    this.#at(deadlineAtMs, () => this.#steps.complete());
  }

  /** It is over, or there is nothing to move from. Returns how long the gateway still asked to wait, if it did. */
  stop(): number | undefined {
    clearTimeout(this.#timer);
    const remainingMs = this.#notBeforeMs - performance.now();
    this.#order = null;
    this.#begun = false;
    this.#notBeforeMs = 0;
    return remainingMs > 0 ? remainingMs : undefined;
  }

  #openAt(atMs: number): void {
    this.#at(atMs, () => {
      this.#begun = true;
      this.#steps.open(this.#order?.url);
    });
  }

  #at(atMs: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, Math.min(maxTimerMs, Math.max(0, atMs - performance.now())));
  }
}
