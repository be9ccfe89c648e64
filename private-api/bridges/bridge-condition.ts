/** What a bridge shows of itself: which of its parts are in trouble, its last error, and how long publications wait to be emitted. */
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { BridgeStatus } from "./bridge-status.ts";

const maxMessageLength = 500;

/** What can be in trouble, each by itself. */
type Part = "fleet" | "in" | "out";

export class BridgeCondition {
  readonly #logger: Logger;
  readonly #emits: boolean;
  readonly #troubles = new Map<Part, string>([["fleet", "not joined yet"]]);
  /** Until the operator changes something. */
  isRefused = false;
  #lastError: BridgeStatus["lastError"];
  /** By `performance.now()`: everything that the change log had then is emitted. */
  #caughtUpAt = performance.now();
  #isCaughtUp = false;

  /** @param options.emits whether the bridge carries publications to the old fleet */
  constructor({ logger, emits }: { logger: Logger; emits: boolean }) {
    this.#logger = logger;
    this.#emits = emits;
  }

  get status(): BridgeStatus {
    const isLagging = this.#emits && !this.#isCaughtUp;
    return {
      state: this.isRefused ? "refused" : this.#troubles.size > 0 ? "degraded" : "live",
      lagMs: isLagging ? Math.round(performance.now() - this.#caughtUpAt) : 0,
      at: Date.now(),
      ...(this.#lastError && { lastError: this.#lastError }),
    };
  }

  joined(): void {
    this.isRefused = false;
    this.note("fleet", undefined);
    // Of the session before: the queue is another one.
    this.note("in", undefined);
  }

  /** Publications are about to be emitted. @param areNew everything before them is emitted */
  read(areNew: boolean): void {
    if (areNew) this.#caughtUpAt = performance.now();
    this.#isCaughtUp = false;
  }

  /** @param isLast the change log had no more @param readAt when it was read, by `performance.now()` */
  emitted(isLast: boolean, readAt: number): void {
    this.#isCaughtUp = isLast;
    if (isLast) this.#caughtUpAt = readAt;
  }

  /** Logs changes. @param message undefined: the part works */
  note(part: Part, message: string | undefined): void {
    if (message === undefined) {
      if (this.#troubles.delete(part)) this.#logger.info({ part }, "the bridge works");
      return;
    }
    const text = excerpt(message, maxMessageLength);
    if (this.#troubles.get(part) !== text) this.#logger.warn({ part, reason: text }, "the bridge is degraded");
    this.#troubles.set(part, text);
    if (part !== "in") this.#isCaughtUp = false;
    this.#lastError = { at: Date.now(), message: text };
  }
}
