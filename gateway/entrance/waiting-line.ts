/** How a connection begins: with a session it had, or without. */
export type AdmissionKind = "resume" | "cold";

/** Of so many that are let in from a line of both kinds, one is cold, however many resumes come. */
const coldEvery = 10;

/**
 * Those who wait to be let in: resumes before cold ones, the oldest of a kind first. A cold one is let in for every nine
 * resumes, so that resumes without end do not keep the others out.
 */
export class WaitingLine<Entry> {
  readonly #kinds = { resume: new Queue<Entry>(), cold: new Queue<Entry>() };
  #resumesInARow = 0;

  get length(): number {
    return this.#kinds.resume.length + this.#kinds.cold.length;
  }

  lengthOf(kind: AdmissionKind): number {
    return this.#kinds[kind].length;
  }

  add(kind: AdmissionKind, entry: Entry): void {
    this.#kinds[kind].add(entry);
  }

  /** @returns false where it does not wait (any more). */
  remove(entry: Entry): boolean {
    return this.#kinds.resume.remove(entry) || this.#kinds.cold.remove(entry);
  }

  /** How many are let in before one that comes now, if no more come. */
  ahead(kind: AdmissionKind): number {
    const { resume, cold } = this.#kinds;
    if (kind === "cold") return Math.min(resume.length, (cold.length + 1) * (coldEvery - 1)) + cold.length;
    return resume.length + Math.min(cold.length, Math.floor((this.#resumesInARow + resume.length) / (coldEvery - 1)));
  }

  /** Takes out who is let in next. */
  next(): Entry | undefined {
    const { resume, cold } = this.#kinds;
    const coldIsDue = this.#resumesInARow >= coldEvery - 1 && cold.length > 0;
    if (resume.length === 0 || coldIsDue) {
      this.#resumesInARow = 0;
      return cold.take();
    }
    this.#resumesInARow = Math.min(this.#resumesInARow + 1, coldEvery);
    return resume.take();
  }

  /** Who has waited longest of a kind. */
  oldest(kind: AdmissionKind): Entry | undefined {
    return this.#kinds[kind].first();
  }
}

/** First in, first out; whoever is in it can leave at any time. */
class Queue<Entry> {
  readonly #entries = new Set<Entry>();
  /** Goes on past those that have left, so that taking the first does not search for it. */
  #iterator = this.#entries.values();
  #first: Entry | undefined;

  get length(): number {
    return this.#entries.size;
  }

  add(entry: Entry): void {
    this.#entries.add(entry);
  }

  remove(entry: Entry): boolean {
    if (this.#first === entry) this.#first = undefined;
    return this.#entries.delete(entry);
  }

  first(): Entry | undefined {
    if (this.#first !== undefined || this.#entries.size === 0) return this.#first;
    let step = this.#iterator.next();
    if (step.done) {
      this.#iterator = this.#entries.values();
      step = this.#iterator.next();
    }
    this.#first = step.value;
    return this.#first;
  }

  take(): Entry | undefined {
    const entry = this.first();
    if (entry !== undefined) this.remove(entry);
    return entry;
  }
}
