/** The leases of one dispatcher: extended while the work on them lasts, given up when the dispatcher stops. */
import type { Claimed, Lease, QueueStore } from "../../shared/queues/contract.ts";
import { leaseMs } from "../../shared/queues/contract.ts";
import type { ReportStoreFailure } from "./store-failure.ts";

/** Leases that have been held for this long are extended; call {@link HeldLeases.extend} as often. */
export const extendMs = leaseMs / 3;

export interface HeldLease {
  readonly lease: Lease;
  /** Attempts at its first item that failed before. */
  readonly attempts: number;
  /** Since it was asked for, or last extended, by `performance.now()`. */
  heldSince: number;
  /** Another dispatcher may work on the queue: nothing more is settled. */
  lost: boolean;
  /** Busy until the settlement is sent. */
  readonly worker: BusyWorker;
}

export interface BusyWorker {
  /** Frees the worker; further calls do nothing. */
  release(): void;
}

export class HeldLeases {
  readonly #store: QueueStore;
  readonly #report: ReportStoreFailure;
  readonly #held = new Set<HeldLease>();
  #whenNone: (() => void) | undefined;

  constructor(store: QueueStore, report: ReportStoreFailure) {
    this.#store = store;
    this.#report = report;
  }

  get size(): number {
    return this.#held.size;
  }

  /** The caller must call {@link end}. */
  begin({ lease, attempts }: Claimed, heldSince: number, worker: BusyWorker): HeldLease {
    const held = { lease, attempts, heldSince, lost: false, worker };
    this.#held.add(held);
    return held;
  }

  /** The work on it is over. */
  end(held: HeldLease): void {
    this.#held.delete(held);
    if (this.#held.size === 0) this.#whenNone?.();
  }

  async extend(): Promise<void> {
    const now = performance.now();
    const due = [...this.#held].filter(({ heldSince, lost }) => !lost && now - heldSince >= extendMs);
    if (due.length === 0) return;
    const extended = this.#store.extend(due.map(({ lease }) => lease));
    await Promise.all(due.map(async (held, index) => this.#keep(held, extended[index], now)));
  }

  async #keep(held: HeldLease, extended: Promise<boolean> | undefined, now: number): Promise<void> {
    try {
      if (await extended) held.heldSince = now;
      else held.lost = true;
    } catch (error) {
      this.#report(error, "a lease could not be extended", [held.lease.slot]);
    }
  }

  /** Resolves when the work on all leases is over, after `maxMs` at the latest. */
  async drain(maxMs: number): Promise<void> {
    if (this.#held.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#whenNone = resolve;
    const timer = setTimeout(resolve, maxMs);
    await promise;
    clearTimeout(timer);
  }

  /** Makes the queues ready for other dispatchers at once. The store refuses what deliveries under way still settle. */
  async giveUp(): Promise<void> {
    const left = [...this.#held].filter(({ lost }) => !lost);
    await Promise.allSettled(
      left.map(async (held) => {
        held.lost = true;
        const { lease, attempts } = held;
        await this.#store.settle(lease, { kind: "retry", done: 0, attempts, delayMs: 0 });
      }),
    );
  }
}
