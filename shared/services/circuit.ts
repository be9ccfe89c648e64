/**
 * Whether a service answers at all. After too many failures its circuit opens: nothing is sent but one probe once in a while, until
 * a probe succeeds. Pure.
 */

export interface CircuitBounds {
  /** Failures within a window that open the circuit, where they are at least half of the answers. */
  minFailures: number;
  windowMs: number;
  /** Longest time between two probes. */
  maxProbeMs: number;
}

const defaultBounds: CircuitBounds = { minFailures: 10, windowMs: 10_000, maxProbeMs: 30_000 };
const firstProbeMs = 1_000;
/** Users counted one by one in one window; of further users only failures count. */
const maxUsers = 1_000;

/** A request that the circuit let pass. */
export type Attempt = "ordinary" | "probe";

/** `unknown`: the request was not sent or not given enough time, so it says nothing about the service. */
export type AttemptResult = "answered" | "failed" | "unknown";

export class Circuit {
  readonly #bounds: CircuitBounds;
  readonly #random: () => number;
  readonly #onChange: (isOpen: boolean) => void;
  /** The first answer begins one. */
  #windowFrom = -Infinity;
  #failures = 0;
  #answers = 0;
  /** User → whether the latest answer was a failure. */
  readonly #users = new Map<string, boolean>();
  #failingUsers = 0;
  /** Until then nothing is sent, by the caller's clock; undefined: closed. */
  #openUntil: number | undefined;
  #probeMs = firstProbeMs;
  #probing = false;

  /** @param options.random in [0, 1) */
  constructor({
    bounds = defaultBounds,
    random = Math.random,
    onChange = () => undefined,
  }: { bounds?: CircuitBounds; random?: () => number; onChange?: (isOpen: boolean) => void } = {}) {
    this.#bounds = bounds;
    this.#random = random;
    this.#onChange = onChange;
  }

  get isOpen(): boolean {
    return this.#openUntil !== undefined;
  }

  /** Ms until a request may be sent; 0: now. Infinity: a probe is under way. */
  waitMs(nowMs: number): number {
    if (this.#openUntil === undefined) return 0;
    return this.#probing ? Infinity : Math.max(0, this.#openUntil - nowMs);
  }

  /** When a refused request may come again: at a random moment of the second after the next probe. */
  retryAfterMs(nowMs: number): number {
    const waitMs = this.waitMs(nowMs);
    return Math.ceil((Number.isFinite(waitMs) ? waitMs : 0) + firstProbeMs * (0.5 + this.#random() / 2));
  }

  /** A request is to be sent. @returns undefined: not now. Otherwise the caller must call {@link end}. */
  begin(nowMs: number): Attempt | undefined {
    if (this.#openUntil === undefined) return "ordinary";
    if (this.waitMs(nowMs) > 0) return undefined;
    this.#probing = true;
    return "probe";
  }

  /** @param user one user alone, whose requests fail, does not open the circuit for others that are answered */
  end(attempt: Attempt, result: AttemptResult, { user, nowMs }: { user: string; nowMs: number }): void {
    if (attempt === "probe") this.#endProbe(result, nowMs);
    // A request from before the circuit opened tells nothing new.
    else if (this.#openUntil === undefined && result !== "unknown") this.#count(result === "failed", user, nowMs);
  }

  #endProbe(result: AttemptResult, nowMs: number): void {
    this.#probing = false;
    if (result === "answered") {
      this.#openUntil = undefined;
      this.#probeMs = firstProbeMs;
      this.#beginWindow(nowMs);
      this.#onChange(false);
    } else if (result === "failed") {
      this.#probeMs = Math.min(this.#bounds.maxProbeMs, this.#probeMs * 2);
      this.#openUntil = nowMs + this.#jittered(this.#probeMs);
    }
  }

  #count(failed: boolean, user: string, nowMs: number): void {
    if (nowMs - this.#windowFrom >= this.#bounds.windowMs) this.#beginWindow(nowMs);
    this.#note(user, failed);
    this.#answers++;
    if (!failed) return;
    this.#failures++;
    if (this.#failures < this.#bounds.minFailures || this.#failures * 2 < this.#answers) return;
    if (this.#failingUsers * 2 < this.#users.size) return;
    this.#openUntil = nowMs + this.#jittered(this.#probeMs);
    this.#onChange(true);
  }

  #note(user: string, failed: boolean): void {
    const known = this.#users.get(user);
    if (known === failed || (known === undefined && this.#users.size >= maxUsers)) return;
    this.#users.set(user, failed);
    if (failed) this.#failingUsers++;
    else if (known) this.#failingUsers--;
  }

  #beginWindow(nowMs: number): void {
    this.#windowFrom = nowMs;
    this.#failures = 0;
    this.#answers = 0;
    this.#users.clear();
    this.#failingUsers = 0;
  }

  /** Between half and all of it, so that a fleet does not probe at one moment. */
  #jittered(ms: number): number {
    return ms * (0.5 + this.#random() / 2);
  }
}
