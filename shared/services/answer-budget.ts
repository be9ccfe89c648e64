/**
 * Memory of answers of services, from the moment they are read until they are passed on. An answer of up to 64 KiB needs no
 * part of the budget: there are no more of those than requests at services. A larger one, of 1 MiB at most, needs a part before
 * the rest of it is read; until then TCP holds its service up.
 */

/** An answer that is no larger is read at once. */
export const smallAnswerBytes = 64 * 1024;

/** Large answers at once: in a process, and of these from one service, for one asker and for one session. */
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
  /** Parts taken, by the key of the bound that they count for; one without any is not listed. */
  readonly #taken = new Map<string, number>();
  readonly #waiting = new Set<Waiting>();

  /** For the answer to one question. @param asker passes the answer on: one stream of a gateway. */
  part(asker: string, session: string): AnswerPart {
    return new AnswerPart(this, { asker, session });
  }

  get taken(): number {
    return this.#taken.get("process") ?? 0;
  }

  /** @returns false: not within the time. True: the caller calls {@link give} afterwards. */
  async take(bounds: readonly Bound[], waitMs: number): Promise<boolean> {
    if (this.#hasRoom(bounds)) {
      this.#count(bounds, 1);
      return true;
    }
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

  /** Admits in order of arrival. A waiting part whose own bounds are reached does not block those behind it. */
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
    return bounds.every(({ key, most }) => (this.#taken.get(key) ?? 0) < most);
  }

  #count(bounds: readonly Bound[], by: 1 | -1): void {
    for (const { key } of bounds) {
      const taken = (this.#taken.get(key) ?? 0) + by;
      if (taken === 0) this.#taken.delete(key);
      else this.#taken.set(key, taken);
    }
  }
}

/** What the answer to one question takes of the budget: nothing, until it turns out to be large. */
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

  /** @returns false: there is no room for it within the time. */
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

  /** Call when the answer has been passed on or dropped. */
  release(): void {
    this.#released = true;
    if (this.#bounds) this.#budget.give(this.#bounds);
    this.#bounds = undefined;
  }
}
