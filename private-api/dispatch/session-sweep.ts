import { randomUUID } from "node:crypto";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { leaseMs, type SessionStore } from "../../shared/sessions/contract.ts";
import { SteadySweep } from "../../shared/sessions/steady-sweep.ts";

const askMs = 1_000;

/** Ends the sessions of gateways that are gone, where no gateway is left to do so. Only while services ask for session events. */
export class SessionSweep implements Service {
  readonly #store: Pick<SessionStore, "renewLease" | "sweep">;
  readonly #isWanted: () => boolean;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #sweep: SteadySweep;
  /** An id without a lease: renewing it only shows whether the store of the leases can be reached. */
  readonly #noHolder = randomUUID();
  /** By `performance.now()` */
  #answeredAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: {
    store: Pick<SessionStore, "renewLease" | "sweep">;
    isWanted: () => boolean;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    const { store, errors, logger } = options;
    this.#store = store;
    this.#isWanted = options.isWanted;
    this.#errors = errors;
    this.#logger = logger;
    const onSwept = (holders: number): void => logger.info({ holders }, "ended the sessions of gateways that are gone");
    this.#sweep = new SteadySweep({ store, onSwept, logger });
  }

  async start(): Promise<void> {
    this.#timer = this.#errors.every(askMs, () => this.#ask());
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  async #ask(): Promise<void> {
    if (!this.#isWanted()) return;
    // This process was paused, or began to ask: gateways may not have renewed their leases either.
    const askedAt = performance.now();
    if (askedAt - this.#answeredAt > leaseMs) this.#sweep.interrupted();
    try {
      await this.#store.renewLease(this.#noHolder, { fresh: false });
      this.#answeredAt = askedAt;
      this.#sweep.answered(askedAt);
    } catch (error) {
      this.#sweep.interrupted();
      if (!(error instanceof TidegateError)) throw error;
      this.#logger.debug({ err: error }, "the leases of gateways could not be reached");
    }
  }
}
