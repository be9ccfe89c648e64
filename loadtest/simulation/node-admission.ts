/**
 * What one node decides about handshakes, with the gateway's own parts: token bucket, waiting line, slots. Only the gate's
 * queue and the clock are the simulation's.
 */
import { maxQueueMs } from "../../gateway/entrance/admission.ts";
import { ReconnectTimes } from "../../gateway/entrance/reconnect-times.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { type AdmissionKind, AdmissionQueue } from "../../gateway/entrance/admission-queue.ts";

/** These are constants of gateway/entrance/admission.ts and upgrade-gate.ts. */
const reconnectPart = 0.9;
export const maxGateMs = 2_000;
const minUpgradesPerSecond = 100;
const upgradesPerAdmission = 2;

/** What a node is told of its part of the fleet's admissions. */
export interface Given {
  readonly sharePerSecond: number;
  /** What it is owed by its weight: the share, as soon as others have been given less. */
  readonly fairSharePerSecond: number;
  /** That it knows of, itself included. */
  readonly nodes: number;
}

export class NodeAdmission {
  readonly #budgetPerSecond: number;
  readonly #line = new AdmissionQueue<number>();
  readonly #reconnectTimes: ReconnectTimes;
  readonly #bucket = new TokenBucket(neverMoreThan(0), 0, 0);
  readonly #gate = new TokenBucket({ capacity: 0, perSecond: 0 }, 0, 0);
  #linePerSecond = 1;
  #returnsPerSecond = 1;
  #upgradesPerSecond = minUpgradesPerSecond;

  constructor(options: { budgetPerSecond: number; nodes: number; nowMs: number; random: () => number }) {
    this.#budgetPerSecond = options.budgetPerSecond;
    this.#reconnectTimes = new ReconnectTimes({ random: options.random });
    this.give({ sharePerSecond: 0, fairSharePerSecond: 0, nodes: options.nodes }, options.nowMs);
  }

  /** In line. */
  get waiting(): number {
    return this.#line.length;
  }

  give({ sharePerSecond, fairSharePerSecond, nodes }: Given, nowMs: number): void {
    const averagePerSecond = this.#budgetPerSecond / Math.max(1, nodes);
    this.#linePerSecond = Math.max(sharePerSecond, fairSharePerSecond) || averagePerSecond;
    this.#returnsPerSecond = Math.max(this.#linePerSecond, averagePerSecond);
    this.#upgradesPerSecond = Math.max(minUpgradesPerSecond, upgradesPerAdmission * this.#returnsPerSecond);
    this.#bucket.change(neverMoreThan(sharePerSecond), nowMs);
    this.#gate.change({ capacity: this.#upgradesPerSecond, perSecond: this.#upgradesPerSecond }, nowMs);
  }

  /** May one more connection be opened? */
  opens(nowMs: number): boolean {
    return this.#gate.take(nowMs);
  }

  /** For so many there is room before the gate; the others are answered 503. */
  get roomAtGate(): number {
    return (this.#upgradesPerSecond * maxGateMs) / 1_000;
  }

  enter(client: number, kind: AdmissionKind, nowMs: number): "admitted" | "waits" | "refused" {
    if (this.#line.length === 0 && this.#bucket.take(nowMs)) return "admitted";
    if (((this.#line.ahead(kind) + 1) * 1_000) / this.#linePerSecond > maxQueueMs) return "refused";
    this.#line.add(kind, client);
    return "waits";
  }

  /** Who has waited longest of a kind. */
  oldest(kind: AdmissionKind): number | undefined {
    return this.#line.oldest(kind);
  }

  leaves(client: number): void {
    this.#line.remove(client);
  }

  /** Who is let in now; undefined: nobody. */
  next(nowMs: number): number | undefined {
    return this.#line.length > 0 && this.#bucket.take(nowMs) ? this.#line.take() : undefined;
  }

  /** One that is gone with its node. */
  dismiss(): number | undefined {
    return this.#line.take();
  }

  /** When one that is refused should come back. */
  returnInMs(nowMs: number, notBeforeMs: number): number {
    const lineMs = (this.#line.length * 1_000) / this.#linePerSecond;
    const perSecond = this.#returnsPerSecond * reconnectPart;
    return this.#reconnectTimes.take(nowMs, { perSecond, notBeforeMs: Math.max(notBeforeMs, lineMs) });
  }
}
