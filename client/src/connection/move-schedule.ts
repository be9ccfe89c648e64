import type { DrainNotice } from "./drain.ts";
import { maxTimerMs } from "../calls/backoff.ts";

export interface MoveSteps {
  /** Opens the second connection. */
  open(url: string | undefined): void;
  /** Leaves the first connection. */
  complete(): void;
}

/**
 * Times a move off a draining node: opens the second connection at the reconnect time, retries if that fails, and
 * completes at the deadline. Owns one timer.
 */
export class MoveSchedule {
  readonly #steps: MoveSteps;
  #notice: DrainNotice | null = null;
  #started = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** End of the last `retryAfterMs`. */
  #retryAfterAtMs = 0;

  constructor(steps: MoveSteps) {
    this.#steps = steps;
  }

  /** The client has tried to open a second connection. */
  get started(): boolean {
    return this.#started;
  }

  /** A newer notice replaces the last one; once the move has started, its reconnect time no longer counts. */
  drain(notice: DrainNotice): void {
    this.#notice = notice;
    if (!this.#started) this.#openAt(notice.reconnectAtMs);
  }

  /** The second connection failed. */
  retry(delayMs: number, retryAfterMs: number | undefined): void {
    const nowMs = performance.now();
    if (retryAfterMs !== undefined) this.#retryAfterAtMs = nowMs + retryAfterMs;
    this.#openAt(nowMs + delayMs);
  }

  /** The second connection is welcomed: only the deadline remains. */
  welcomed(): void {
    const deadlineAtMs = this.#notice?.deadlineAtMs ?? 0;
    this.#at(deadlineAtMs, () => this.#steps.complete());
  }

  /** Forgets the move. Returns what remains of the last `retryAfterMs`, if anything. */
  stop(): number | undefined {
    clearTimeout(this.#timer);
    const remainingMs = this.#retryAfterAtMs - performance.now();
    this.#notice = null;
    this.#started = false;
    this.#retryAfterAtMs = 0;
    return remainingMs > 0 ? remainingMs : undefined;
  }

  #openAt(atMs: number): void {
    this.#at(atMs, () => {
      this.#started = true;
      this.#steps.open(this.#notice?.url);
    });
  }

  #at(atMs: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, Math.min(maxTimerMs, Math.max(0, atMs - performance.now())));
  }
}
