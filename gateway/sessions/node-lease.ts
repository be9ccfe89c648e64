import { randomUUID } from "node:crypto";
import type { Logger } from "../../shared/runtime/logging.ts";
import { lingerMs, type SessionStore } from "../../shared/sessions/contract.ts";
import { SteadySweep } from "../../shared/sessions/steady-sweep.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";

/** Former names that a node keeps while a part of the store cannot be written: the other parts have a list under each of them. */
const maxFormerHolders = 10;

/** More than an answer of the store takes: its clock is known from one. */
const maxClockDifferenceMs = 30_000;

/**
 * The name under which this node writes to the session store, and its lease. Where the store may be incomplete under that
 * name, the node takes another one; the former name keeps its lease until everything is written again. A node whose lease
 * is steady also sweeps those that expired.
 */
export class NodeLease {
  readonly #store: Pick<SessionStore, "renewLease" | "abandon" | "now">;
  readonly #logger: Logger;
  readonly #sweep: SteadySweep;
  #holder: string = randomUUID();
  /** The store knows the name. */
  #registered = false;
  #formerHolders: string[] = [];
  /** When the last renewal was asked for, by `performance.now()`. */
  #renewedAt = -Infinity;
  #clocksDiffer = false;

  constructor(options: {
    store: Pick<SessionStore, "renewLease" | "abandon" | "sweep" | "now">;
    metrics: Pick<GatewayMetrics, "sweptNodes">;
    logger: Logger;
  }) {
    const { store, metrics, logger } = options;
    this.#store = store;
    this.#logger = logger;
    this.#sweep = new SteadySweep({ store, onSwept: (nodes) => metrics.sweptNodes.inc(nodes), logger });
  }

  get holder(): string {
    return this.#holder;
  }

  /** Since the last renewal. */
  get ageMs(): number {
    return performance.now() - this.#renewedAt;
  }

  /** This node, and maybe others, could not renew their leases. */
  interrupted(): void {
    this.#sweep.interrupted();
  }

  /** @returns false where the store does not know the name: its lease has expired. */
  async renew(): Promise<boolean> {
    return this.#renew(this.#holder, { fresh: false });
  }

  /** What is not written under the present name yet is found under these. */
  async renewFormer(): Promise<void> {
    await Promise.all(this.#formerHolders.map((former) => this.#store.renewLease(former, { fresh: false })));
  }

  /** Takes another name. */
  async rename(): Promise<void> {
    const next = randomUUID();
    await this.#renew(next, { fresh: true });
    // Past the bound the newest of them expires: most of it is written again under the present name, or is under the oldest
    // name. The rest is swept too early, and the next beat writes it again.
    if (this.#registered) {
      this.#formerHolders = [...this.#formerHolders.slice(0, maxFormerHolders - 1), this.#holder];
    }
    this.#registered = true;
    this.#holder = next;
  }

  /** Everything is written under the present name: the store drops the rest. */
  async abandonFormer(): Promise<void> {
    for (const former of this.#formerHolders) await this.#store.abandon(former, { inMs: 0 });
    this.#formerHolders = [];
  }

  /** Sessions that do not resume elsewhere in {@link lingerMs} are swept. */
  async abandon(): Promise<void> {
    await this.#store.abandon(this.#holder, { inMs: lingerMs });
  }

  /** Sweeps expired leases while this node's own is steady. */
  sweepWhereSteady(): void {
    this.#sweep.answered(this.#renewedAt);
  }

  async #renew(holder: string, options: { fresh: boolean }): Promise<boolean> {
    const askedAt = performance.now();
    const known = await this.#store.renewLease(holder, options);
    this.#renewedAt = askedAt;
    this.#compareClocks();
    return known;
  }

  /** The node judges tokens and signatures of webhooks by its own clock. */
  #compareClocks(): void {
    const aheadMs = Date.now() - this.#store.now();
    const differ = Math.abs(aheadMs) > maxClockDifferenceMs;
    if (differ && !this.#clocksDiffer) {
      this.#logger.warn(
        { aheadSeconds: Math.round(aheadMs / 1_000) },
        "the clock of this machine differs from that of Redis",
      );
    }
    this.#clocksDiffer = differ;
  }
}
