/** Whether a service answers at all: after too many failures it is asked only once in a while, until it answers again. Pure. */

/** Failures within a window that open the circuit, where they are at least half of the answers. */
const minFailures = 10;
const windowMs = 10_000;
const firstProbeMs = 1_000;
const maxProbeMs = 30_000;

export class Circuit {
  readonly #random: () => number;
  #windowFrom = 0;
  #failures = 0;
  #successes = 0;
  /** Until then nothing is sent, by the caller's clock; undefined: closed. */
  #openUntil: number | undefined;
  #probeMs = firstProbeMs;
  #probing = false;

  /** @param random in [0, 1) */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  get isOpen(): boolean {
    return this.#openUntil !== undefined;
  }

  /** Ms until a request may be sent; 0: now. While the circuit is open one request at a time may. */
  waitMs(nowMs: number): number {
    if (this.#openUntil === undefined) return 0;
    return this.#probing ? Infinity : Math.max(0, this.#openUntil - nowMs);
  }

  /** A request is sent. @returns whether it is a probe: it tells whether the service answers again. */
  begin(): boolean {
    if (this.#openUntil === undefined) return false;
    this.#probing = true;
    return true;
  }

  /** The service answered, be it with a refusal. */
  succeeded(nowMs: number): void {
    if (this.#openUntil !== undefined) {
      this.#openUntil = undefined;
      this.#probing = false;
      this.#probeMs = firstProbeMs;
      this.#beginWindow(nowMs);
      return;
    }
    this.#roll(nowMs);
    this.#successes++;
  }

  /** No answer, or one that says the service cannot work: 5xx. */
  failed(nowMs: number): void {
    if (this.#openUntil !== undefined) {
      // Requests that were under way when it opened tell nothing new.
      if (!this.#probing) return;
      this.#probing = false;
      this.#probeMs = Math.min(maxProbeMs, this.#probeMs * 2);
      this.#openUntil = nowMs + this.#jittered(this.#probeMs);
      return;
    }
    this.#roll(nowMs);
    this.#failures++;
    if (this.#failures < minFailures || this.#failures < this.#successes) return;
    this.#openUntil = nowMs + this.#jittered(this.#probeMs);
  }

  /** A request that told nothing: it was never sent. */
  cancelled(): void {
    this.#probing = false;
  }

  #roll(nowMs: number): void {
    if (nowMs - this.#windowFrom >= windowMs) this.#beginWindow(nowMs);
  }

  #beginWindow(nowMs: number): void {
    this.#windowFrom = nowMs;
    this.#failures = 0;
    this.#successes = 0;
  }

  /** Between half and all of it, so that a fleet does not probe at one moment. */
  #jittered(ms: number): number {
    return ms * (0.5 + this.#random() / 2);
  }
}
