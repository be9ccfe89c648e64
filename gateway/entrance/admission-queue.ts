/** How a connection begins: `resume` continues a session, `cold` begins a new one. */
export type AdmissionKind = "resume" | "cold";

/** One in so many admissions is cold while both kinds wait. */
const coldEvery = 10;

/**
 * Handshakes that wait for admission: resumes before cold ones, the oldest of a kind first. After nine resumes in a row
 * comes a cold one, so that endless resumes do not starve new clients.
 */
export class AdmissionQueue<Entry> {
  readonly #kinds = { resume: new Queue<Entry>(), cold: new Queue<Entry>() };
  #resumesInARow = 0;

  get length(): number {
    return this.#kinds.resume.length + this.#kinds.cold.length;
  }

  add(kind: AdmissionKind, entry: Entry): void {
    this.#kinds[kind].add(entry);
  }

  /** @returns false where the entry is not in the queue. */
  remove(entry: Entry): boolean {
    return this.#kinds.resume.remove(entry) || this.#kinds.cold.remove(entry);
  }

  /** Entries that are taken before one that is added now, if no others are added. */
  ahead(kind: AdmissionKind): number {
    const { resume, cold } = this.#kinds;
    if (kind === "cold") return Math.min(resume.length, (cold.length + 1) * (coldEvery - 1)) + cold.length;
    return resume.length + Math.min(cold.length, Math.floor((this.#resumesInARow + resume.length) / (coldEvery - 1)));
  }

  /** Takes the next entry. */
  take(): Entry | undefined {
    const { resume, cold } = this.#kinds;
    const coldIsDue = this.#resumesInARow >= coldEvery - 1 && cold.length > 0;
    if (resume.length === 0 || coldIsDue) {
      this.#resumesInARow = 0;
      return cold.take();
    }
    this.#resumesInARow = Math.min(this.#resumesInARow + 1, coldEvery);
    return resume.take();
  }

  /** The entry of a kind that has waited longest. */
  oldest(kind: AdmissionKind): Entry | undefined {
    return this.#kinds[kind].first();
  }
}

/** First in, first out; any entry can be removed at any time. */
class Queue<Entry> {
  readonly #entries = new Set<Entry>();
  /** Continues past removed entries: taking the first one does not search for it. */
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
