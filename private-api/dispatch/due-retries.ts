/** Makes the retries ready that this dispatcher has delayed, when they are due. */
import type { QueueStore } from "../../shared/queues/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { ReportStoreFailure } from "./store-failure.ts";

/** Retries that are due within this are made ready together. */
const togetherMs = 20;
/** Longest wait of one timer. The dispatcher's sweep finds what other dispatchers have delayed. */
const maxWaitMs = 5_000;
/** After a failure of the store. */
const storeRetryMs = 250;

export class DueRetries {
  readonly #store: QueueStore;
  readonly #errors: ContainedErrors;
  readonly #report: ReportStoreFailure;
  /** Slot → when its next retry is due, by `performance.now()`. */
  readonly #dueAt = new Map<number, number>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(store: QueueStore, errors: ContainedErrors, report: ReportStoreFailure) {
    this.#store = store;
    this.#errors = errors;
    this.#report = report;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** A retry in the slot is due in `delayMs`. */
  expect(slot: number, delayMs: number): void {
    const dueAt = performance.now() + delayMs;
    const known = this.#dueAt.get(slot);
    if (known === undefined || dueAt < known) this.#dueAt.set(slot, dueAt);
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#dueAt.size === 0 || this.#stopped) return;
    const waitMs = Math.max(togetherMs, Math.min(...this.#dueAt.values()) - performance.now());
    this.#timer = setTimeout(() => this.#errors.contain("store", () => this.#promote()), Math.min(waitMs, maxWaitMs));
  }

  async #promote(): Promise<void> {
    const now = performance.now();
    const due = [...this.#dueAt].filter(([, dueAt]) => dueAt <= now).map(([slot]) => slot);
    for (const slot of due) this.#dueAt.delete(slot);
    // Retries of other slots do not wait for these.
    this.#schedule();
    if (due.length === 0) return;
    const { nextMs, unreached } = await this.#store.promote(due);
    const failed = new Set(unreached.flatMap(({ slots }) => slots));
    for (const { slots, error } of unreached) this.#report(error, "retries could not be made ready", slots);
    for (const slot of failed) this.expect(slot, storeRetryMs);
    // The next one is due in one of these slots. The reply does not say which, so expect it in all of them.
    if (nextMs !== undefined) for (const slot of due) if (!failed.has(slot)) this.expect(slot, nextMs);
  }
}
