/** Lets handshakes in at the rate that the fleet gives this node; the others wait a moment, or are told when to come back. */
import type { Counter, Histogram } from "../../shared/runtime/metrics.ts";
import { RecentCount } from "./recent-count.ts";
import { ReturnSlots } from "./return-slots.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { type AdmissionKind, WaitingLine } from "./waiting-line.ts";

/** The rest of the time from upgrade to accept is left to the checks. */
export const maxLineMs = 5_000;
/** A burst of those who waited is checked in so large portions: sessions are served between. */
const maxPerTurn = 16;
/** Those who wait are looked after at least so often. */
const tickMs = 50;
/** A node that is given nothing asks for a share while somebody waits. */
const askAgainMs = 250;
/** Those who have a slot come in beside others. */
const slotsOfRate = 0.9;

export type Decision =
  | { kind: "admitted" }
  | { kind: "refused"; retryAfterMs: number }
  /** The node does not let in any more. */
  | { kind: "closed" };

/** A handshake that asks to be let in. */
export interface Comer {
  kind: AdmissionKind;
  address: string;
  /** By `performance.now()`: if it has not been let in by then, it is refused. */
  until: number;
}

interface Waiting extends Comer {
  since: number;
  decide: (decision: Decision) => void;
}

/** What this node is given of the fleet's admissions. */
export interface AdmissionShare {
  /** Connections a second, as far as it is known. */
  readonly sharePerSecond: number;
  /** What it is to be, once the others have been given theirs. */
  readonly fairSharePerSecond: number;
  readonly budgetPerSecond: number;
  readonly nodes: readonly unknown[];
  report(): Promise<void>;
}

export class Admission {
  readonly #share: AdmissionShare;
  readonly #admitted: Counter<"kind">;
  readonly #waitSeconds: Histogram<"kind">;
  readonly #line = new WaitingLine<Waiting>();
  readonly #slots = new ReturnSlots();
  /** Let in or refused. */
  readonly #decided = new RecentCount();
  readonly #bucket: TokenBucket;
  #sharePerSecond = 0;
  #timer: NodeJS.Timeout | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: { share: AdmissionShare; admitted: Counter<"kind">; waitSeconds: Histogram<"kind"> }) {
    this.#share = options.share;
    this.#admitted = options.admitted;
    this.#waitSeconds = options.waitSeconds;
    // Empty: what this node is given now, another may have used up within the same second.
    this.#bucket = new TokenBucket(neverMoreThan(0), performance.now(), 0);
  }

  /** Handshakes in line. */
  get waiting(): number {
    return this.#line.length;
  }

  /** What would have to be let in each second: those who were, those who wait, and those who were refused. */
  get demandPerSecond(): number {
    return this.#decided.total(performance.now()) + this.#line.length;
  }

  /** Connections a second that those who come back can count on, here or elsewhere: a full node has next to no share. */
  get returnsPerSecond(): number {
    return Math.max(this.#linePerSecond, this.#averageShare);
  }

  get #averageShare(): number {
    const { budgetPerSecond, nodes } = this.#share;
    return budgetPerSecond / Math.max(1, nodes.length);
  }

  /** That the line can count on: a node that has just come is soon given what it is owed. */
  get #linePerSecond(): number {
    return Math.max(this.#share.sharePerSecond, this.#share.fairSharePerSecond) || this.#averageShare;
  }

  /** The share may be another. */
  onShare(): void {
    this.#followShare(performance.now());
    this.#letIn();
  }

  /**
   * @param decide called once, at once where it is clear, unless it leaves before.
   * @returns leaves the line.
   */
  enter(comer: Comer, decide: (decision: Decision) => void): () => void {
    const now = performance.now();
    const { kind, until } = comer;
    const waiting = { ...comer, since: now, decide };
    this.#followShare(now);
    if (this.#closed) decide({ kind: "closed" });
    else if (this.#line.length === 0 && this.#bucket.take(now)) this.#admit(waiting, now);
    else if (now + ((this.#line.ahead(kind) + 1) * 1_000) / this.#linePerSecond > until) this.#refuse(waiting, now);
    else {
      this.#line.add(kind, waiting);
      this.#awaitTurn(now);
    }
    return () => void this.#line.remove(waiting);
  }

  /** For a client that is refused for another reason. @returns its reconnect time, at least `notBeforeMs` away. */
  returnInMs(address: string, notBeforeMs: number): number {
    const now = performance.now();
    this.#decided.add(now);
    const perSecond = this.returnsPerSecond * slotsOfRate;
    const lineMs = (this.#line.length * 1_000) / this.#linePerSecond;
    return this.#slots.take(now, { perSecond, address, notBeforeMs: Math.max(notBeforeMs, lineMs) });
  }

  /** Nobody is let in any more; those in line are told. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (let waiting = this.#line.next(); waiting; waiting = this.#line.next()) waiting.decide({ kind: "closed" });
  }

  #followShare(now: number): void {
    const { sharePerSecond } = this.#share;
    if (sharePerSecond === this.#sharePerSecond) return;
    this.#sharePerSecond = sharePerSecond;
    this.#bucket.change(neverMoreThan(sharePerSecond), now);
  }

  #admit({ kind, since, decide }: Waiting, now: number): void {
    this.#decided.add(now);
    this.#admitted.inc({ kind });
    this.#waitSeconds.observe({ kind }, (now - since) / 1_000);
    decide({ kind: "admitted" });
  }

  #refuse({ address, decide }: Waiting, now: number): void {
    const nextInMs = this.#bucket.waitMs(now);
    const notBeforeMs = Number.isFinite(nextInMs) ? nextInMs : 0;
    decide({ kind: "refused", retryAfterMs: this.returnInMs(address, notBeforeMs) });
  }

  readonly #letIn = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    this.#followShare(now);
    for (let turn = 0; turn < maxPerTurn && this.#line.length > 0 && this.#bucket.take(now); turn++) {
      const next = this.#line.next();
      if (next) this.#admit(next, now);
    }
    for (const kind of ["resume", "cold"] as const) {
      for (let oldest = this.#line.oldest(kind); oldest && oldest.until <= now; oldest = this.#line.oldest(kind)) {
        this.#line.remove(oldest);
        this.#refuse(oldest, now);
      }
    }
    this.#awaitTurn(now);
  };

  #awaitTurn(now: number): void {
    if (this.#timer || this.#line.length === 0) return;
    if (this.#share.sharePerSecond === 0 && now > this.#askedAt + askAgainMs) {
      this.#askedAt = now;
      void this.#share.report();
    }
    this.#timer = setTimeout(this.#letIn, Math.min(Math.max(1, Math.ceil(this.#bucket.waitMs(now))), tickMs));
  }
}
