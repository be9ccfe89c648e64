/** Checks that writes succeed and published messages arrive: a subscription can be lost while its connection looks healthy. */
import { TidegateError } from "../runtime/errors.ts";
import { type Refusal, refusalOf } from "./refusals.ts";

export type ProbeOutcome = "returned" | "lost" | "unanswered";

/** Sends over the connection for commands, to the primary. Both methods reject with the server's answer as cause. */
export interface ProbeSender {
  /** Writes a key, deletes it and publishes, atomically. */
  write(topic: string, message: string): Promise<unknown>;
  publish(topic: string, message: string): Promise<unknown>;
}

/** A connection that receives nothing for this long after a probe was published is deaf. */
const silenceMs = 2_500;
/** Longest wait, in units of {@link silenceMs}, for a connection that still receives a backlog. */
const maxWaits = 4;

/** Messages that one subscriber connection sends to itself, on a topic of its own. */
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

  /** Call for every message that arrives, whatever its topic. */
  receive(topic: string, message: string): void {
    this.#received++;
    if (topic !== this.topic) return;
    this.#returned = Math.max(this.#returned, Number(message));
    for (const check of this.#waiting) check();
  }

  /** @returns whether the primary takes messages. One that refuses writes may still take messages. */
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
      if (await this.#arrives(number)) return "returned";
      if (this.#received === before) return "lost";
    }
    return "lost";
  }

  async #arrives(number: number): Promise<boolean> {
    if (this.#returned < number) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const check = (): void => {
        if (this.#returned >= number) resolve();
      };
      this.#waiting.add(check);
      // One turn later: messages that arrived while this process was busy are read first.
      const timer = setTimeout(() => setImmediate(resolve), silenceMs);
      await promise;
      clearTimeout(timer);
      this.#waiting.delete(check);
    }
    return this.#returned >= number;
  }
}

/** @returns undefined on success. */
async function outcomeOf(sent: Promise<unknown>): Promise<Refusal | "failed" | undefined> {
  try {
    await sent;
    return undefined;
  } catch (error) {
    const cause: unknown = error instanceof TidegateError ? error.cause : error;
    return refusalOf(cause) ?? "failed";
  }
}
