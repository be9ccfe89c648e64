import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";

/** Between two looks at the clock. */
const tickMs = 250;
/** Shorter ones may be delays of a busy process. */
const minPauseMs = 5_000;
/** By then this process has read what came while it was frozen. */
const catchUpMs = 1_000;

/** Notices that this process was frozen: what it reads right after that may have waited for as long. */
export class Pauses {
  readonly #errors: ContainedErrors;
  /** By `performance.now()` */
  #lookedAt = performance.now();
  #last = { ms: 0, endedAt: -Infinity };
  #timer: NodeJS.Timeout | undefined;

  constructor(errors: ContainedErrors) {
    this.#errors = errors;
  }

  start(): void {
    this.#lookedAt = performance.now();
    this.#timer = this.#errors.every(tickMs, () => this.#look()).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * @param since when the stream was opened, by `performance.now()`
   * @returns ms for which a line that is read now may have waited in the stream; 0: there was no pause
   */
  unreadMs(since: number): number {
    // What waits is read before any timer fires.
    this.#look();
    const { ms, endedAt } = this.#last;
    return since < endedAt && performance.now() - endedAt < catchUpMs ? ms : 0;
  }

  #look(): void {
    const now = performance.now();
    const ms = now - this.#lookedAt;
    this.#lookedAt = now;
    if (ms >= minPauseMs) this.#last = { ms, endedAt: now };
  }
}
