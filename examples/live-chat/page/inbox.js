/** The conversations of a Facebook page: of each the newest message. */
export class Inbox {
  /** By customer. */
  #entries = new Map();

  apply(_event, data, offset) {
    const known = this.#entries.get(data.customer);
    if (!known || offset > known.offset) this.#entries.set(data.customer, { ...data, offset });
  }

  clear() {
    this.#entries.clear();
  }

  /** The newest first. `isWaiting`: the customer has the last word. */
  get entries() {
    return [...this.#entries.values()]
      .sort((a, b) => b.offset - a.offset)
      .map((entry) => ({ ...entry, isWaiting: entry.from === "customer" }));
  }
}
