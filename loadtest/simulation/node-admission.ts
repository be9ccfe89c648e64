/**
 * The admission of one node, built of the gateway's own parts: token bucket, waiting line, reconnect times. The simulation
 * adds only the gate's queue and the clock.
 */
import { maxQueueMs } from "../../gateway/entrance/admission.ts";
import { ReconnectTimes } from "../../gateway/entrance/reconnect-times.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { type AdmissionKind, AdmissionQueue } from "../../gateway/entrance/admission-queue.ts";

/** Constants of gateway/entrance/admission.ts and upgrade-gate.ts. */
const reconnectsOfRate = 0.9;
export const maxGateMs = 2_000;
const minUpgradesPerSecond = 100;
const upgradesPerAdmission = 2;

/** A node's share of the fleet's admissions. */
export interface AdmissionShare {
  readonly sharePerSecond: number;
  /** The share by its weight, which it gets once the other nodes gave up theirs. */
  readonly fairSharePerSecond: number;
  /** Nodes that it knows, itself included. */
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
    this.setShare({ sharePerSecond: 0, fairSharePerSecond: 0, nodes: options.nodes }, options.nowMs);
  }

  /** Clients in line. */
  get waiting(): number {
    return this.#line.length;
  }

  setShare({ sharePerSecond, fairSharePerSecond, nodes }: AdmissionShare, nowMs: number): void {
    const averagePerSecond = this.#budgetPerSecond / Math.max(1, nodes);
    this.#linePerSecond = Math.max(sharePerSecond, fairSharePerSecond) || averagePerSecond;
    this.#returnsPerSecond = Math.max(this.#linePerSecond, averagePerSecond);
    this.#upgradesPerSecond = Math.max(minUpgradesPerSecond, upgradesPerAdmission * this.#returnsPerSecond);
    this.#bucket.change(neverMoreThan(sharePerSecond), nowMs);
    this.#gate.change({ capacity: this.#upgradesPerSecond, perSecond: this.#upgradesPerSecond }, nowMs);
  }

  /** @returns whether one more connection may open now. */
  opens(nowMs: number): boolean {
    return this.#gate.take(nowMs);
  }

  /** Dials that may wait before the gate; further ones get 503. */
  get roomAtGate(): number {
    return (this.#upgradesPerSecond * maxGateMs) / 1_000;
  }

  enter(client: number, kind: AdmissionKind, nowMs: number): "admitted" | "waits" | "refused" {
    if (this.#line.length === 0 && this.#bucket.take(nowMs)) return "admitted";
    if (((this.#line.ahead(kind) + 1) * 1_000) / this.#linePerSecond > maxQueueMs) return "refused";
    this.#line.add(kind, client);
    return "waits";
  }

  /** The client that has waited longest. */
  oldest(kind: AdmissionKind): number | undefined {
    return this.#line.oldest(kind);
  }

  leaves(client: number): void {
    this.#line.remove(client);
  }

  /** @returns the client that is admitted now, if any. */
  next(nowMs: number): number | undefined {
    return this.#line.length > 0 && this.#bucket.take(nowMs) ? this.#line.take() : undefined;
  }

  /** Removes one client from the line: its node ended. */
  dismiss(): number | undefined {
    return this.#line.take();
  }

  /** The reconnect time of a refused client, from now. */
  reconnectInMs(nowMs: number, notBeforeMs: number): number {
    const lineMs = (this.#line.length * 1_000) / this.#linePerSecond;
    const perSecond = this.#returnsPerSecond * reconnectsOfRate;
    return this.#reconnectTimes.take(nowMs, { perSecond, notBeforeMs: Math.max(notBeforeMs, lineMs) });
  }
}
