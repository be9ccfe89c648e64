/**
 * The cards as this window knows them. Snapshots, publications, answers and conflicts may come in any order and more than
 * once: the newest offset of each card wins, so nothing is applied twice and nothing old comes back.
 */
export class Cards {
  /** By id, with the offset of the last change; a removed card stays as `{ offset, card: null }`. */
  #known = new Map();
  /** What this window has changed and nobody has confirmed yet, by id: shown on top of what is known. */
  #hopes = new Map();
  #position = null;

  /** Up to where everything that happened on the board is in here; null before the first snapshot. */
  get position() {
    return this.#position;
  }

  /** A snapshot says what there is up to its position; what is newer than that stays. */
  load({ position, cards }) {
    for (const [id, { offset }] of this.#known) if (offset <= position.offset) this.#known.delete(id);
    for (const card of cards) this.#learn(card.id, position.offset, card);
    if (this.#position?.epoch !== position.epoch) this.#position = position;
    this.#advance(position.offset);
  }

  /** What is known may be of another history, or lack something: whatever comes from now on is newer. */
  doubt() {
    for (const known of this.#known.values()) known.offset = -1;
    this.#position = null;
  }

  /** The data of a publication, in offset order: `{ card }`, or `{ id }` of a removed one. No offset: it passes by. */
  apply({ card, id }, { offset }) {
    if (offset === undefined) return;
    if (card) this.#learn(card.id, offset, card);
    else if (id) this.#learn(id, offset, null);
    this.#advance(offset);
  }

  /** The answer to a change of mine: nothing happened between what I had seen and its `position`. */
  confirm({ position, ...data }) {
    if (this.#position?.epoch === position.epoch) this.apply(data, position);
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

  #learn(id, offset, card) {
    if (offset > (this.#known.get(id)?.offset ?? -1)) this.#known.set(id, { offset, card });
  }

  #advance(offset) {
    if (this.#position && offset > this.#position.offset) this.#position = { ...this.#position, offset };
  }
}
