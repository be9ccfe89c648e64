/**
 * Whether a service answers at all. After too many failures its circuit opens: nothing is sent but one probe once in a while, until
 * a probe succeeds. Where only a few users' requests fail, it opens for these users alone. Pure.
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
/** With fewer failing users it opens for them alone. */
const minFailingUsers = 10;
/** Once so many requests of users who leave a probe to others were refused, what can wait does so for that time: all of it may be theirs. */
const maxLeft = 100;
/** A request without a user counts for all of them. */
const noUser = "";

/** A request that the circuit let pass. */
export type Attempt = "ordinary" | "probe";

/** `unknown`: the request was not sent or not given enough time, so it says nothing about the service. */
export type AttemptResult = "answered" | "failed" | "unknown";

export class Circuit {
  readonly #bounds: CircuitBounds;
  readonly #random: () => number;
  readonly #onChange: (isOpen: boolean) => void;
  readonly #onHeard: () => void;
  /** The first answer begins one. */
  #windowFrom = -Infinity;
  #failures = 0;
  #answers = 0;
  /** User → whether the latest answer was a failure. */
  readonly #users = new Map<string, boolean>();
  #failingUsers = 0;
  /** Until then nothing is sent, by the caller's clock; undefined: closed. */
  #openUntil: number | undefined;
  /** It is open for these users alone; undefined: for all. */
  #openFor: ReadonlySet<string> | undefined;
  /** A request beside the probes was answered since it opened. */
  #isAnswering = false;
  /** Users whose probe has failed: others probe first. */
  readonly #failedProbers = new Set<string>();
  /** Requests of these users that were refused since a probe was due. */
  #left = 0;
  #probeMs = firstProbeMs;
  #probing = false;

  /**
   * @param options.random in [0, 1)
   * @param options.onHeard it stays open, but is silent no more
   */
  constructor({
    bounds = defaultBounds,
    random = Math.random,
    onChange = () => undefined,
    onHeard = () => undefined,
  }: {
    bounds?: CircuitBounds;
    random?: () => number;
    onChange?: (isOpen: boolean) => void;
    onHeard?: () => void;
  } = {}) {
    this.#bounds = bounds;
    this.#random = random;
    this.#onChange = onChange;
    this.#onHeard = onHeard;
  }

  /** For some users at least. */
  get isOpen(): boolean {
    return this.#openUntil !== undefined;
  }

  /** It is open, and nobody was answered since: a failure says nothing about its request, and what can wait should. */
  get isSilent(): boolean {
    return this.#openUntil !== undefined && !this.#isAnswering;
  }

  /** Ms until some request may be sent; 0: now. Infinity: a probe is under way. */
  waitMs(nowMs: number): number {
    if (!this.isSilent) return 0;
    return this.#probeInMs(this.#left < maxLeft ? nowMs : nowMs - firstProbeMs);
  }

  /** When a refused request may come again: at a random moment of the second after the next probe. */
  retryAfterMs(nowMs: number, user = noUser): number {
    const waitMs = this.#waitMsOf(user, nowMs);
    return Math.ceil((Number.isFinite(waitMs) ? waitMs : 0) + firstProbeMs * (0.5 + this.#random() / 2));
  }

  /** A request is to be sent. @returns undefined: not now. Otherwise the caller must call {@link end}. */
  begin(nowMs: number, user = noUser): Attempt | undefined {
    if (!this.#isOpenFor(user)) return "ordinary";
    if (this.#waitMsOf(user, nowMs) > 0) {
      if (this.#probeInMs(nowMs) === 0) this.#left++;
      return undefined;
    }
    this.#left = 0;
    this.#probing = true;
    return "probe";
  }

  end(attempt: Attempt, result: AttemptResult, { user, nowMs }: { user: string; nowMs: number }): void {
    if (attempt === "probe") this.#endProbe(result, user, nowMs);
    // A request from before the circuit opened tells nothing new.
    else if (!this.#isOpenFor(user) && result !== "unknown") this.#count(result === "failed", user, nowMs);
  }

  #isOpenFor(user: string): boolean {
    return this.#openUntil !== undefined && (this.#openFor?.has(user) ?? true);
  }

  #waitMsOf(user: string, nowMs: number): number {
    if (!this.#isOpenFor(user)) return 0;
    // Otherwise the user with the most failing requests would have every probe.
    return this.#probeInMs(this.#failedProbers.has(user) ? nowMs - firstProbeMs : nowMs);
  }

  #probeInMs(nowMs: number): number {
    return this.#probing ? Infinity : Math.max(0, (this.#openUntil ?? nowMs) - nowMs);
  }

  #endProbe(result: AttemptResult, user: string, nowMs: number): void {
    this.#probing = false;
    if (result === "answered") this.#close(nowMs);
    else if (result === "failed") {
      if (user !== noUser && this.#failedProbers.size < maxUsers) this.#failedProbers.add(user);
      this.#probeMs = Math.min(this.#bounds.maxProbeMs, this.#probeMs * 2);
      this.#openUntil = nowMs + this.#jittered(this.#probeMs);
    }
  }

  #close(nowMs: number): void {
    this.#openUntil = undefined;
    this.#openFor = undefined;
    this.#failedProbers.clear();
    this.#probeMs = firstProbeMs;
    this.#beginWindow(nowMs);
    this.#onChange(false);
  }

  #count(failed: boolean, user: string, nowMs: number): void {
    if (nowMs - this.#windowFrom >= this.#bounds.windowMs) this.#beginWindow(nowMs);
    this.#note(user, failed);
    this.#answers++;
    if (!failed) {
      const wasSilent = this.isSilent;
      this.#isAnswering = true;
      // The users it is open for have not come back.
      const isLeft = this.#openUntil !== undefined && nowMs > this.#openUntil + this.#bounds.maxProbeMs;
      if (isLeft && !this.#probing) this.#close(nowMs);
      else if (wasSilent) this.#onHeard();
      return;
    }
    this.#failures++;
    if (this.#failures < this.#bounds.minFailures || this.#failures * 2 < this.#answers) return;
    if (this.#failingUsers * 2 < this.#users.size) return;
    this.#open(nowMs);
  }

  /** Or opens it for more users. */
  #open(nowMs: number): void {
    const failing = [...this.#users].filter(([, failed]) => failed).map(([user]) => user);
    const users = new Set([...(this.#openFor ?? []), ...failing]);
    this.#openFor = users.size < minFailingUsers && !users.has(noUser) ? users : undefined;
    this.#isAnswering = false;
    this.#left = 0;
    const wasOpen = this.isOpen;
    // Probes for the users before may have become rare.
    this.#probeMs = firstProbeMs;
    this.#openUntil = nowMs + this.#jittered(this.#probeMs);
    if (!wasOpen) this.#onChange(true);
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
