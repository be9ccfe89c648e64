/** Admits handshakes at the rate that the fleet gives this node; others wait in a queue, or get a reconnect time. */
import type { Counter, Histogram } from "../../shared/runtime/metrics.ts";
import { type AdmissionKind, AdmissionQueue } from "./admission-queue.ts";
import { RecentCount } from "./recent-count.ts";
import { ReconnectTimes } from "./reconnect-times.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** Longest wait in the queue; a handshake that would exceed it is refused up front. The checks get the rest of the deadline. */
export const maxQueueMs = 5_000;
/** Handshakes that are admitted in one turn of the event loop: sessions are served in between. */
const maxPerTurn = 16;
/** Longest time between two looks at the queue. */
const tickMs = 50;
/** How often a node without a share asks for one while handshakes wait. */
const askAgainMs = 250;
/** Part of the rate that reconnect times use; the rest is for clients that connect without one. */
const reconnectPart = 0.9;

export type Decision =
  | { kind: "admitted" }
  | { kind: "refused"; retryAfterMs: number }
  /** The node admits no more. */
  | { kind: "closed" };

export interface AdmissionRequest {
  kind: AdmissionKind;
  address: string;
  /** By `performance.now()`: refused, unless admitted by then. */
  deadline: number;
}

interface Waiting extends AdmissionRequest {
  since: number;
  decide: (decision: Decision) => void;
}

/** This node's share of the fleet's admissions. */
export interface AdmissionShare {
  /** Connections per second, as far as known. */
  readonly sharePerSecond: number;
  /** The share by weight: the actual one follows as other nodes give up theirs. */
  readonly fairSharePerSecond: number;
  readonly budgetPerSecond: number;
  readonly nodes: readonly unknown[];
  report(): Promise<void>;
}

export class Admission {
  readonly #share: AdmissionShare;
  readonly #admitted: Counter<"kind">;
  readonly #waitSeconds: Histogram<"kind">;
  readonly #queue = new AdmissionQueue<Waiting>();
  readonly #reconnectTimes = new ReconnectTimes();
  /** Handshakes admitted or refused. */
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
    // Begins empty: another node may have used up this node's new share within the same second.
    this.#bucket = new TokenBucket(neverMoreThan(0), performance.now(), 0);
  }

  /** Handshakes in the queue. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Admissions per second that would satisfy all: the handshakes of the last second, and those in the queue. */
  get demandPerSecond(): number {
    return this.#decided.total(performance.now()) + this.#queue.length;
  }

  /** Admissions per second for reconnecting clients, on this node or another: a full node has next to no share. */
  get reconnectsPerSecond(): number {
    return Math.max(this.#queuePerSecond, this.#averageShare);
  }

  get #averageShare(): number {
    const { budgetPerSecond, nodes } = this.#share;
    return budgetPerSecond / Math.max(1, nodes.length);
  }

  /** Admissions per second that the queue can expect: a new node soon gets its fair share. */
  get #queuePerSecond(): number {
    return Math.max(this.#share.sharePerSecond, this.#share.fairSharePerSecond) || this.#averageShare;
  }

  /** To be called when the share may have changed. */
  onShare(): void {
    this.#followShare(performance.now());
    this.#work();
  }

  /**
   * @param decide called once, immediately where possible; never after the handshake has left the queue.
   * @returns leaves the queue.
   */
  enter(request: AdmissionRequest, decide: (decision: Decision) => void): () => void {
    const now = performance.now();
    const { kind, deadline } = request;
    const waiting = { ...request, since: now, decide };
    this.#followShare(now);
    if (this.#closed) decide({ kind: "closed" });
    else if (this.#queue.length === 0 && this.#bucket.take(now)) this.#admit(waiting, now);
    else if (now + ((this.#queue.ahead(kind) + 1) * 1_000) / this.#queuePerSecond > deadline) {
      this.#refuse(waiting, now);
    } else {
      this.#queue.add(kind, waiting);
      this.#schedule(now);
    }
    return () => void this.#queue.remove(waiting);
  }

  /** Takes a reconnect time for a client that is refused. @returns how long to wait for it, at least `notBeforeMs`. */
  takeReconnectMs(address: string, notBeforeMs: number): number {
    const now = performance.now();
    this.#decided.add(now);
    const perSecond = this.reconnectsPerSecond * reconnectPart;
    const queueMs = (this.#queue.length * 1_000) / this.#queuePerSecond;
    return this.#reconnectTimes.take(now, { perSecond, address, notBeforeMs: Math.max(notBeforeMs, queueMs) });
  }

  /** Admits no more; decides "closed" for every handshake in the queue. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (let waiting = this.#queue.take(); waiting; waiting = this.#queue.take()) waiting.decide({ kind: "closed" });
  }

  /** Takes {@link close} back. */
  open(): void {
    this.#closed = false;
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
    decide({ kind: "refused", retryAfterMs: this.takeReconnectMs(address, notBeforeMs) });
  }

  /** Admits what the rate allows, and refuses what has waited too long. */
  readonly #work = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    this.#followShare(now);
    for (let turn = 0; turn < maxPerTurn && this.#queue.length > 0 && this.#bucket.take(now); turn++) {
      const next = this.#queue.take();
      if (next) this.#admit(next, now);
    }
    for (const kind of ["resume", "cold"] as const) {
      for (let oldest = this.#queue.oldest(kind); oldest && oldest.deadline <= now; oldest = this.#queue.oldest(kind)) {
        this.#queue.remove(oldest);
        this.#refuse(oldest, now);
      }
    }
    this.#schedule(now);
  };

  #schedule(now: number): void {
    if (this.#timer || this.#queue.length === 0) return;
    if (this.#share.sharePerSecond === 0 && now > this.#askedAt + askAgainMs) {
      this.#askedAt = now;
      void this.#share.report();
    }
    this.#timer = setTimeout(this.#work, Math.min(Math.max(1, Math.ceil(this.#bucket.waitMs(now))), tickMs));
  }
}
