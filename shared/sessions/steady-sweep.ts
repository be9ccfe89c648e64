import { TidegateError } from "../runtime/errors.ts";
import type { Logger } from "../runtime/logging.ts";
import { leaseMs, type SessionStore } from "./contract.ts";

/**
 * A process sweeps once the store has answered it for this long without a failure: after an outage every node has had the same
 * time to renew its lease.
 */
const steadyMs = leaseMs + 2_000;

/** Sweeps expired leases, of this process or of others, while the store is steady. */
export class SteadySweep {
  readonly #store: Pick<SessionStore, "sweep">;
  readonly #onSwept: (holders: number) => void;
  readonly #logger: Logger;
  /** By `performance.now()`: since when the store has always answered. */
  #steadySince: number | undefined;
  /** One at a time, beside everything else: a sweep after a large node takes longer than a lease lasts. */
  #sweeping = false;

  constructor(options: { store: Pick<SessionStore, "sweep">; onSwept: (holders: number) => void; logger: Logger }) {
    this.#store = options.store;
    this.#onSwept = options.onSwept;
    this.#logger = options.logger;
  }

  /** This process, and maybe nodes, could not reach the store. */
  interrupted(): void {
    this.#steadySince = undefined;
  }

  /**
   * Called after each answer of the store. A later sweep, of any process, resumes an unfinished one.
   * @param askedAt when the store was asked, by `performance.now()`
   */
  answered(askedAt: number): void {
    const now = performance.now();
    // This process was paused before it read the answer: nodes may have been, too.
    if (now - askedAt > leaseMs) this.interrupted();
    this.#steadySince ??= now;
    if (this.#sweeping || now - this.#steadySince < steadyMs) return;
    this.#sweeping = true;
    this.#store
      .sweep()
      .then((holders) => {
        if (holders > 0) this.#onSwept(holders);
      })
      .catch((error: unknown) => {
        this.interrupted();
        if (!(error instanceof TidegateError)) this.#logger.error({ err: error }, "sweep of expired leases failed");
      })
      .finally(() => {
        this.#sweeping = false;
      });
  }
}
