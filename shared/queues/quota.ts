/** Limits how many items of a tenant or a source may wait. Counts what the store last said, plus what this process has added since. */

/** The part of what was free at the last read of the store that this process may fill before it reads again. */
const trustedPart = 1 / 8;
/** Other processes enqueue as well, and dispatchers deliver. */
const maxAgeMs = 10_000;
const maxOwners = 10_000;

interface Known {
  waiting: number;
  /** Items that this process has added since. */
  added: number;
  /** By `performance.now()`. */
  readAt: number;
  /** The last question that was asked before the read of the store began. */
  asOf: number;
}

/** How many more items of an owner may wait. */
interface Room {
  has(items: number): boolean;
  /** Counts items that are stored. */
  take(items: number): void;
}

export class WaitingQuota {
  readonly #limit: () => number;
  readonly #waiting: (owner: string) => Promise<number>;
  /** Tenants, or sources. Bounded: the one that was read first is forgotten first. */
  readonly #owners = new Map<string, Known>();
  /** The last question that waits for the store, by owner: later ones wait behind it. */
  readonly #turns = new Map<string, Promise<unknown>>();
  #questions = 0;

  /** @param options.limit by the rules in force. @param options.waiting asks the store. */
  constructor(options: { limit: () => number; waiting: (owner: string) => Promise<number> }) {
    this.#limit = options.limit;
    this.#waiting = options.waiting;
  }

  get limit(): number {
    return this.#limit();
  }

  /** As {@link allows}, without waiting: undefined if the store has to be asked, or another question waits for it. */
  allowsAtOnce(owner: string, items: number): boolean | undefined {
    const known = this.#owners.get(owner);
    if (!known || this.#turns.has(owner) || !this.#isTrusted(known, items)) return undefined;
    return this.#take(known, items);
  }

  /** Whether `items` more of the owner may wait; they are counted. Answers come in the order of the questions. */
  async allows(owner: string, items: number): Promise<boolean> {
    const atOnce = this.allowsAtOnce(owner, items);
    if (atOnce !== undefined) return atOnce;
    const question = ++this.#questions;
    return this.#inTurn(owner, async () => {
      const newest = this.#owners.get(owner);
      // One read of the store without enough room refuses all questions that were asked before it.
      if (newest && newest.asOf >= question && !this.#hasRoom(newest, items)) return false;
      return this.#take(newest && this.#isTrusted(newest, items) ? newest : await this.#read(owner), items);
    });
  }

  /** For items of which some may wait though others have no room. One read of the store answers all questions that were asked before it. */
  async room(owner: string): Promise<Room> {
    const question = ++this.#questions;
    const read = await this.#inTurn(owner, async () => {
      const newest = this.#owners.get(owner);
      return newest && newest.asOf >= question ? newest : this.#read(owner);
    });
    const newest = (): Known => this.#owners.get(owner) ?? read;
    return {
      has: (items) => this.#hasRoom(newest(), items),
      take: (items) => void (newest().added += items),
    };
  }

  /** Behind the earlier questions about the owner. */
  async #inTurn<Answer>(owner: string, decide: () => Promise<Answer>): Promise<Answer> {
    const earlier = this.#turns.get(owner);
    const turn = earlier ? earlier.then(decide, decide) : decide();
    this.#turns.set(owner, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(owner) === turn) this.#turns.delete(owner);
    }
  }

  #take(known: Known, items: number): boolean {
    if (!this.#hasRoom(known, items)) return false;
    known.added += items;
    return true;
  }

  #hasRoom({ waiting, added }: Known, items: number): boolean {
    return waiting + added + items <= this.limit;
  }

  #isTrusted({ waiting, added, readAt }: Known, items: number): boolean {
    if (performance.now() - readAt > maxAgeMs) return false;
    return added + items <= (this.limit - waiting) * trustedPart;
  }

  async #read(owner: string): Promise<Known> {
    const asOf = this.#questions;
    const waiting = await this.#waiting(owner);
    const known = { waiting, added: 0, readAt: performance.now(), asOf };
    this.#owners.delete(owner);
    const [oldest] = this.#owners.keys();
    if (this.#owners.size >= maxOwners && oldest !== undefined) this.#owners.delete(oldest);
    this.#owners.set(owner, known);
    return known;
  }
}
