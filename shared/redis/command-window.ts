import { brokerUnavailable } from "./unavailable.ts";

/** Commands without an answer yet, of one process to one primary. A mass return of clients fits in. */
const maxCommands = 20_000;
const maxBytes = 32 * 1024 * 1024;
/** A Redis that owes answers and gives none for this long (at most twice this) is not asked any more until it does. */
const stallMs = 500;

/**
 * Bounds what waits for one Redis: while it stalls with its connections open, everything else is refused at once
 * instead of piling up, to be executed when the stall ends.
 */
export class CommandWindow {
  #commands = 0;
  #bytes = 0;
  #answers = 0;
  #stalled = false;
  #watch: NodeJS.Timeout | undefined;

  get stalled(): boolean {
    return this.#stalled;
  }

  get commands(): number {
    return this.#commands;
  }

  /** Before a command; {@link leave} after it. @throws TidegateError `broker_unavailable` where it must not be sent. */
  enter(bytes: number): void {
    if (this.#stalled) throw brokerUnavailable("the message store does not answer");
    if (this.#commands >= maxCommands || this.#bytes + bytes > maxBytes) {
      throw brokerUnavailable("too much waits for the message store");
    }
    this.#commands++;
    this.#bytes += bytes;
    this.#watchAnswers();
  }

  /** @param answered by Redis itself, be it with an error. */
  leave(bytes: number, answered: boolean): void {
    this.#commands--;
    this.#bytes -= bytes;
    if (answered) this.#answers++;
    if (!answered && this.#commands > 0) return;
    this.#stalled = false;
    this.#watchAnswers();
  }

  stop(): void {
    clearTimeout(this.#watch);
  }

  #watchAnswers(): void {
    if (this.#watch || this.#commands === 0) return;
    const before = this.#answers;
    const look = (): void => {
      this.#watch = undefined;
      if (this.#commands > 0 && this.#answers === before) this.#stalled = true;
      else this.#watchAnswers();
    };
    // Answers that came while this process was busy are read first.
    this.#watch = setTimeout(() => setImmediate(look), stallMs).unref();
  }
}
