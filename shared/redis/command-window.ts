import { brokerUnavailable } from "./unavailable.ts";

/** Unanswered commands of one process to one primary. Large enough for a fleet's clients that all reconnect. */
const maxCommands = 20_000;
const maxBytes = 32 * 1024 * 1024;
/** A Redis that owes answers and gives none for this long (at most twice this) gets no more commands until it answers. */
const stallMs = 500;

/**
 * Bounds the commands that wait for one Redis. While Redis stalls with its connections open, further commands are rejected
 * at once; otherwise they would pile up and run when the stall ends.
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

  /** Call before a command, and {@link leave} after it. @throws TidegateError `broker_unavailable` where it must not be sent. */
  enter(bytes: number): void {
    if (this.#stalled) throw brokerUnavailable("the message store does not answer");
    if (this.#commands >= maxCommands || this.#bytes + bytes > maxBytes) {
      throw brokerUnavailable("too many commands wait for the message store");
    }
    this.#commands++;
    this.#bytes += bytes;
    this.#watchAnswers();
  }

  /** @param answered Redis itself replied, if only with an error. */
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
    const check = (): void => {
      this.#watch = undefined;
      if (this.#commands > 0 && this.#answers === before) this.#stalled = true;
      else this.#watchAnswers();
    };
    // One turn later: answers that arrived while this process was busy are read first.
    this.#watch = setTimeout(() => setImmediate(check), stallMs).unref();
  }
}
