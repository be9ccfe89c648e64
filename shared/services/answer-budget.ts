/**
 * Bounds the memory of service answers, from reading until they are forwarded. Answers of up to 64 KiB need no part of the
 * budget: the number of requests bounds them. A larger answer, of at most 1 MiB, needs a part before the rest of it is read; until
 * then TCP backpressure stops the service.
 */
import { Counts } from "../runtime/counts.ts";

/** Answers up to this size are read at once. */
export const smallAnswerBytes = 64 * 1024;

/** Most large answers at a time: per process, service, asker and session. */
const most = { process: 32, service: 16, asker: 16, session: 2 };

interface Bound {
  readonly key: string;
  readonly most: number;
}

interface Waiting {
  readonly bounds: readonly Bound[];
  readonly admit: () => void;
}

export class AnswerBudget {
  /** Parts taken, by key of the bound. */
  readonly #taken = new Counts<string>();
  readonly #waiting = new Set<Waiting>();

  /** For the answer to one question. @param asker the gateway stream that forwards the answer. */
  part(asker: string, session: string): AnswerPart {
    return new AnswerPart(this, { asker, session });
  }

  get taken(): number {
    return this.#taken.of("process");
  }

  /** @returns false after `waitMs` without room. After true, the caller must call {@link give}. */
  async take(bounds: readonly Bound[], waitMs: number): Promise<boolean> {
    if (this.#hasRoom(bounds)) {
      this.#count(bounds, 1);
      return true;
    }
    // The deadline may pass before the first chunk of an answer is handled.
    if (waitMs <= 0) return false;
    return new Promise((resolve) => {
      const waiting: Waiting = {
        bounds,
        admit: () => {
          clearTimeout(timer);
          resolve(true);
        },
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting);
        resolve(false);
      }, waitMs);
      this.#waiting.add(waiting);
    });
  }

  /** Admits in order of arrival. A part that waits for one of its own bounds does not block later ones. */
  give(bounds: readonly Bound[]): void {
    this.#count(bounds, -1);
    for (const waiting of this.#waiting) {
      if (this.taken >= most.process) return;
      if (!this.#hasRoom(waiting.bounds)) continue;
      this.#waiting.delete(waiting);
      this.#count(waiting.bounds, 1);
      waiting.admit();
    }
  }

  #hasRoom(bounds: readonly Bound[]): boolean {
    return bounds.every(({ key, most }) => this.#taken.of(key) < most);
  }

  #count(bounds: readonly Bound[], by: 1 | -1): void {
    for (const { key } of bounds) this.#taken.add(key, by);
  }
}

/** The share of one answer: none, until the answer turns out to be large. */
export class AnswerPart {
  readonly #budget: AnswerBudget;
  readonly #for: { asker: string; session: string };
  #bounds: readonly Bound[] | undefined;
  #released = false;

  constructor(budget: AnswerBudget, owner: { asker: string; session: string }) {
    this.#budget = budget;
    this.#for = owner;
  }

  get isLarge(): boolean {
    return this.#bounds !== undefined;
  }

  /** @returns false after `waitMs` without room. */
  async grow(service: string, waitMs: number): Promise<boolean> {
    if (this.#bounds) return true;
    const bounds = [
      { key: "process", most: most.process },
      { key: `service ${service}`, most: most.service },
      { key: `asker ${this.#for.asker}`, most: most.asker },
      { key: `session ${this.#for.session}`, most: most.session },
    ];
    if (!(await this.#budget.take(bounds, waitMs))) return false;
    if (this.#released) {
      this.#budget.give(bounds);
      return false;
    }
    this.#bounds = bounds;
    return true;
  }

  /** Call once the answer was forwarded or dropped. */
  release(): void {
    this.#released = true;
    if (this.#bounds) this.#budget.give(this.#bounds);
    this.#bounds = undefined;
  }
}
