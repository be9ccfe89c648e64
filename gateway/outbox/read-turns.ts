import type { Outbox } from "./outbox.ts";

/** A read begins while at most this waits in the outbox: with its answer the outbox stays below its bound. */
const roomBytes = 256 * 1024;
/**
 * Answers that one session may read at once, and per second: seven full pages, each of which costs the node 3 ms and Redis
 * 2 ms. A client that missed more gets it a little later.
 */
const burstBytes = 4 * 1024 * 1024;
const bytesPerSecond = 4 * 1024 * 1024;

/**
 * One session's reads of history and presence, replays among them: one at a time, in order. The next read begins once most of
 * the answer before has left for the network, and once the rate allows it.
 */
export class ReadTurns {
  readonly #outbox: Outbox;
  #last: Promise<unknown> = Promise.resolve();
  /** By `performance.now()`: the rate allows everything read so far by then. */
  #allowedAt = 0;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /**
   * Resolves when it is the caller's turn, also after the session has ended.
   *
   * @returns to be called once with the bytes read, when the answer is in the outbox or the read has failed.
   */
  async take(): Promise<(bytes: number) => void> {
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = over;
    await before;
    const waitMs = this.#allowedAt - performance.now() - (burstBytes * 1_000) / bytesPerSecond;
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs).unref());
    await this.#outbox.room(roomBytes);
    return (bytes) => {
      this.#allowedAt = Math.max(this.#allowedAt, performance.now()) + (bytes * 1_000) / bytesPerSecond;
      end();
    };
  }
}
