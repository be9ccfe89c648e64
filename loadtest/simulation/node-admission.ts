/**
 * What one node decides about handshakes, with the gateway's own parts: token bucket, waiting line, slots. Only the gate's
 * queue and the clock are the simulation's.
 */
import { maxLineMs } from "../../gateway/admission/admission.ts";
import { ReturnSlots } from "../../gateway/admission/return-slots.ts";
import { neverMoreThan, TokenBucket } from "../../gateway/admission/token-bucket.ts";
import { type AdmissionKind, WaitingLine } from "../../gateway/admission/waiting-line.ts";
import { budgetParts, fromUnits } from "../../shared/nodes/shares.ts";

/** These are constants of gateway/admission/admission.ts and upgrade-gate.ts. */
const slotsOfRate = 0.9;
export const maxGateMs = 2_000;
const minUpgradesPerSecond = 100;
const upgradesPerAdmission = 2;

export class NodeAdmission {
  readonly #budgetPerSecond: number;
  readonly #line = new WaitingLine<number>();
  readonly #slots: ReturnSlots;
  readonly #bucket = new TokenBucket(neverMoreThan(0), 0, 0);
  readonly #gate = new TokenBucket({ capacity: 0, perSecond: 0 }, 0, 0);
  #sharePerSecond = 0;
  #ratePerSecond: number;
  #upgradesPerSecond = minUpgradesPerSecond;

  constructor(options: { budgetPerSecond: number; nodes: number; nowMs: number; random: () => number }) {
    this.#budgetPerSecond = options.budgetPerSecond;
    this.#ratePerSecond = options.budgetPerSecond / options.nodes;
    this.#slots = new ReturnSlots(options.random);
    this.#takeShare(0, options.nodes, options.nowMs);
  }

  get sharePerSecond(): number {
    return this.#sharePerSecond;
  }

  /** In line. */
  get waiting(): number {
    return this.#line.length;
  }

  /** @param nodes that this one knows of. */
  giveShare(sharePerSecond: number, nodes: number, nowMs: number): void {
    if (sharePerSecond !== this.#sharePerSecond) this.#takeShare(sharePerSecond, nodes, nowMs);
  }

  #takeShare(sharePerSecond: number, nodes: number, nowMs: number): void {
    this.#sharePerSecond = sharePerSecond;
    this.#ratePerSecond = Math.max(sharePerSecond, fromUnits(budgetParts(this.#budgetPerSecond).shared) / nodes);
    this.#upgradesPerSecond = Math.max(minUpgradesPerSecond, upgradesPerAdmission * this.#ratePerSecond);
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
    if (((this.#line.ahead(kind) + 1) * 1_000) / this.#ratePerSecond > maxLineMs) return "refused";
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
    return this.#line.length > 0 && this.#bucket.take(nowMs) ? this.#line.next() : undefined;
  }

  /** One that is gone with its node. */
  dismiss(): number | undefined {
    return this.#line.next();
  }

  /** When one that is refused should come back. */
  returnInMs(nowMs: number, notBeforeMs: number): number {
    const lineMs = (this.#line.length * 1_000) / this.#ratePerSecond;
    const perSecond = this.#ratePerSecond * slotsOfRate;
    return this.#slots.take(nowMs, { perSecond, notBeforeMs: Math.max(notBeforeMs, lineMs) });
  }
}
