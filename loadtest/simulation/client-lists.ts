/**
 * Queues of clients, first in, first out. A client is in at most one list, so that one `next` per client is enough: ten
 * million clients are numbers in typed arrays, and moving one costs a few writes.
 */

/** Stands for no client. */
export const none = -1;

export class ClientLists {
  readonly #next: Int32Array;
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #sizes: Int32Array;
  #lists = 0;
  #total = 0;

  constructor(clients: number, maxLists: number) {
    this.#next = new Int32Array(clients);
    this.#first = new Int32Array(maxLists).fill(none);
    this.#last = new Int32Array(maxLists).fill(none);
    this.#sizes = new Int32Array(maxLists);
  }

  /** @returns the first of `count` new lists; the others follow it. */
  create(count = 1): number {
    const list = this.#lists;
    this.#lists += count;
    if (this.#lists > this.#first.length) throw new Error("no more lists: raise maxLists");
    return list;
  }

  push(list: number, client: number): void {
    const last = this.#last[list] ?? none;
    if (last === none) this.#first[list] = client;
    else this.#next[last] = client;
    this.#next[client] = none;
    this.#last[list] = client;
    this.#sizes[list] = this.size(list) + 1;
    this.#total++;
  }

  /** The head, which stays in the list; {@link none} where the list is empty. */
  first(list: number): number {
    return this.#first[list] ?? none;
  }

  shift(list: number): number {
    const client = this.first(list);
    if (client === none) return none;
    const next = this.#next[client] ?? none;
    this.#first[list] = next;
    if (next === none) this.#last[list] = none;
    this.#sizes[list] = this.size(list) - 1;
    this.#total--;
    return client;
  }

  size(list: number): number {
    return this.#sizes[list] ?? 0;
  }

  /** Clients in all lists together. */
  get total(): number {
    return this.#total;
  }
}
