/** Whether what is published comes back: a subscription can be lost while its connection looks healthy. */

export type ProbeOutcome = "returned" | "lost" | "unanswered";

/** A connection on which nothing arrives for this long after a probe was published is deaf. */
const silenceMs = 2_500;
/** A connection with a backlog gets this many such waits, for as long as something arrives. */
const maxWaits = 4;

/** Messages of one subscriber connection to itself, on a topic of its own. */
export class Probe {
  readonly topic: string;
  readonly #publish: (topic: string, message: string) => Promise<unknown>;
  #sent = 0;
  #returned = 0;
  #received = 0;
  readonly #waiting = new Set<() => void>();

  /** @param options.publish rejects where the publishing side is not answered. */
  constructor(options: { topic: string; publish: (topic: string, message: string) => Promise<unknown> }) {
    this.topic = options.topic;
    this.#publish = options.publish;
  }

  /** For each message that arrives, whatever its topic. */
  receive(topic: string, message: string): void {
    this.#received++;
    if (topic !== this.topic) return;
    this.#returned = Math.max(this.#returned, Number(message));
    for (const look of this.#waiting) look();
  }

  /** Whether the publishing side answers, wherever its messages go. */
  async ask(): Promise<boolean> {
    return this.#publish(this.topic, String(++this.#sent)).then(
      () => true,
      () => false,
    );
  }

  async send(): Promise<ProbeOutcome> {
    const asked = this.ask();
    const number = this.#sent;
    if (!(await asked)) return "unanswered";
    for (let waits = 0; waits < maxWaits; waits++) {
      const before = this.#received;
      if (await this.#comesBack(number)) return "returned";
      if (this.#received === before) return "lost";
    }
    return "lost";
  }

  async #comesBack(number: number): Promise<boolean> {
    if (this.#returned < number) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const look = (): void => {
        if (this.#returned >= number) resolve();
      };
      this.#waiting.add(look);
      // What arrived while this process was busy is read first.
      const timer = setTimeout(() => setImmediate(resolve), silenceMs);
      await promise;
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
    return this.#returned >= number;
  }
}
