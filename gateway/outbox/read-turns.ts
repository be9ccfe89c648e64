import type { Outbox } from "./outbox.ts";

/** A read begins where no more than this waits: with its answer, and what else comes, the outbox stays below its bound. */
const roomBytes = 256 * 1024;
/**
 * What the answers of one session's reads may bring at once, and a second: seven full pages, each of which costs the node 3 ms
 * and Redis 2 ms. A client that missed more gets it a little later.
 */
const burstBytes = 4 * 1024 * 1024;
const bytesPerSecond = 4 * 1024 * 1024;

/**
 * A session's reads of what is stored, replays among them, one at a time and in their order: the next one begins once most of
 * what the one before sent has left, and once it has been paid for.
 */
export class ReadTurns {
  readonly #outbox: Outbox;
  #last: Promise<unknown> = Promise.resolve();
  /** By `performance.now()`: when everything that was read is paid for. */
  #paidAt = 0;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /**
   * Resolves when it is the caller's turn, also where the session has ended by then.
   *
   * @returns to be called with the size of what was read, once the answer is in the outbox or there is none.
   */
  async take(): Promise<(bytes: number) => void> {
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = over;
    await before;
    const waitMs = this.#paidAt - performance.now() - (burstBytes * 1_000) / bytesPerSecond;
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs).unref());
    await this.#outbox.room(roomBytes);
    return (bytes) => {
      this.#paidAt = Math.max(this.#paidAt, performance.now()) + (bytes * 1_000) / bytesPerSecond;
      end();
    };
  }
}
