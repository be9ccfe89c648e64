/**
 * The cards as this window knows them. Snapshots, publications and answers may come in any order and more than once:
 * the newest version of each card wins, so nothing is applied twice and nothing old comes back.
 */
export class Cards {
  /** By id; a removed card stays as `{ version, card: null }`. */
  #known = new Map();
  /** What this window has changed and nobody has confirmed yet, by id: shown on top of what is known. */
  #hopes = new Map();

  /** A snapshot says what there is up to its version; what is newer than that stays. */
  load({ version, cards }) {
    for (const [id, known] of this.#known) if (known.version <= version) this.#known.delete(id);
    for (const card of cards) this.#learn(card.id, card.version, card);
  }

  /** The data of a publication, or of the answer to a change: `{ card }`, or `{ id, version }` of a removed one. */
  apply({ card, id, version }) {
    if (card) this.#learn(card.id, card.version, card);
    else this.#learn(id, version, null);
  }

  /** Shows a change before it is confirmed. Returns what ends that: confirmed or not, what is known shows again. */
  hope(id, change) {
    this.#hopes.set(id, change);
    return () => {
      if (this.#hopes.get(id) === change) this.#hopes.delete(id);
    };
  }

  get(id) {
    const card = this.#known.get(id)?.card;
    return card && { ...card, ...this.#hopes.get(id) };
  }

  /** The cards of a column, from top to bottom. */
  inColumn(column) {
    return [...this.#known.keys()]
      .map((id) => this.get(id))
      .filter((card) => card?.column === column)
      .sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1));
  }

  #learn(id, version, card) {
    if (version > (this.#known.get(id)?.version ?? 0)) this.#known.set(id, { version, card });
  }
}
