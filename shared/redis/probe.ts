/** Whether writes are taken and what is published comes back: a subscription can be lost while its connection looks healthy. */
import { TidegateError } from "../runtime/errors.ts";
import { type Refusal, refusalOf } from "./refusals.ts";

export type ProbeOutcome = "returned" | "lost" | "unanswered";

/** How a probe leaves: over the connection for commands, to the primary. Both reject with what the server answered as cause. */
export interface ProbeSender {
  /** Writes something, removes it, and publishes, in one step. */
  write(topic: string, message: string): Promise<unknown>;
  publish(topic: string, message: string): Promise<unknown>;
}

/** A connection on which nothing arrives for this long after a probe was published is deaf. */
const silenceMs = 2_500;
/** A connection with a backlog gets this many such waits, for as long as something arrives. */
const maxWaits = 4;

/** Messages of one subscriber connection to itself, on a topic of its own. */
export class Probe {
  readonly topic: string;
  readonly #sender: ProbeSender;
  #sent = 0;
  #returned = 0;
  #received = 0;
  #refusal: Refusal | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(options: { topic: string; sender: ProbeSender }) {
    this.topic = options.topic;
    this.#sender = options.sender;
  }

  /** Why the last probe could not be written. */
  get refusal(): Refusal | undefined {
    return this.#refusal;
  }

  /** For each message that arrives, whatever its topic. */
  receive(topic: string, message: string): void {
    this.#received++;
    if (topic !== this.topic) return;
    this.#returned = Math.max(this.#returned, Number(message));
    for (const look of this.#waiting) look();
  }

  /** Whether the publishing side answers, wherever its messages go. Where it takes no writes, it may still take messages. */
  async ask(): Promise<boolean> {
    const message = String(++this.#sent);
    const refusal = await outcomeOf(this.#sender.write(this.topic, message));
    this.#refusal = refusal === "failed" ? undefined : refusal;
    if (refusal === undefined) return true;
    if (refusal === "failed" || refusal.remedy === "reconnect") return false;
    return (await outcomeOf(this.#sender.publish(this.topic, message))) === undefined;
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

/** Undefined where it was done. */
async function outcomeOf(sent: Promise<unknown>): Promise<Refusal | "failed" | undefined> {
  try {
    await sent;
    return undefined;
  } catch (error) {
    const cause: unknown = error instanceof TidegateError ? error.cause : error;
    return refusalOf(cause) ?? "failed";
  }
}
