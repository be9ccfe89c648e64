/**
 * Lists of clients, first in, first out. A client is in one list at most, so one `next` per client is all they need: ten
 * million clients are numbers in typed arrays, and moving one costs a few writes.
 */
export const nobody = -1;

export class ClientLists {
  readonly #next: Int32Array;
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #sizes: Int32Array;
  #lists = 0;
  #total = 0;

  constructor(clients: number, maxLists: number) {
    this.#next = new Int32Array(clients);
    this.#first = new Int32Array(maxLists).fill(nobody);
    this.#last = new Int32Array(maxLists).fill(nobody);
    this.#sizes = new Int32Array(maxLists);
  }

  /** @returns the first of `count` new lists; the others follow it. */
  create(count = 1): number {
    const list = this.#lists;
    this.#lists += count;
    if (this.#lists > this.#first.length) throw new Error("there are no more lists");
    return list;
  }

  push(list: number, client: number): void {
    const last = this.#last[list] ?? nobody;
    if (last === nobody) this.#first[list] = client;
    else this.#next[last] = client;
    this.#next[client] = nobody;
    this.#last[list] = client;
    this.#sizes[list] = this.size(list) + 1;
    this.#total++;
  }

  /** Without taking it out; {@link nobody}: the list is empty. */
  first(list: number): number {
    return this.#first[list] ?? nobody;
  }

  shift(list: number): number {
    const client = this.first(list);
    if (client === nobody) return nobody;
    const next = this.#next[client] ?? nobody;
    this.#first[list] = next;
    if (next === nobody) this.#last[list] = nobody;
    this.#sizes[list] = this.size(list) - 1;
    this.#total--;
    return client;
  }

  size(list: number): number {
    return this.#sizes[list] ?? 0;
  }

  /** In all lists together. */
  get total(): number {
    return this.#total;
  }
}
