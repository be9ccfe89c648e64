import type { Outbox } from "./outbox.ts";

/** A replay begins where no more than this waits: with it, and what else comes, the outbox stays below its bound. */
const roomBytes = 256 * 1024;

/** A session's replays, one at a time: the next one once most of what the one before sent has left. */
export class ReplayTurns {
  readonly #outbox: Outbox;
  #last: Promise<unknown> = Promise.resolve();

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /** Resolves when it is the caller's turn. @returns to be called once its answer is in the outbox, or there is none. */
  async take(): Promise<() => void> {
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = over;
    await before;
    await this.#outbox.room(roomBytes);
    return end;
  }
}
