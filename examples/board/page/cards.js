/**
 * The cards that this window knows. Snapshots, publications, answers and conflicts may arrive in any order and repeatedly:
 * the newest offset of each card wins, so that no change is applied twice or reverted by an older one.
 */
export class Cards {
  /** By id: `{ offset, card }` with the offset of the last change, `card: null` for a removed card. */
  #known = new Map();
  /** By id: this window's unconfirmed changes, shown over the known cards. */
  #previews = new Map();
  #position = null;

  /** All changes up to this position are applied; null before the first snapshot. */
  get position() {
    return this.#position;
  }

  /** Replaces all cards up to the snapshot's position. Newer changes stay. */
  load({ position, cards }) {
    for (const [id, { offset }] of this.#known) if (offset <= position.offset) this.#known.delete(id);
    for (const card of cards) this.#set(card.id, position.offset, card);
    if (this.#position?.epoch !== position.epoch) this.#position = position;
    this.#advance(position.offset);
  }

  /** After a lost history: every later change counts as newer than the known cards. */
  invalidate() {
    for (const known of this.#known.values()) known.offset = -1;
    this.#position = null;
  }

  /** Applies a publication: `{ card }`, or `{ id }` of a removed card. Ignores ephemeral ones, which have no offset. */
  apply({ card, id }, { offset }) {
    if (offset === undefined) return;
    if (card) this.#set(card.id, offset, card);
    else if (id) this.#set(id, offset, null);
    this.#advance(offset);
  }

  /** Applies the answer to this window's change, which directly follows the position it was based on. */
  confirm({ position, ...data }) {
    if (this.#position?.epoch === position.epoch) this.apply(data, position);
  }

  /** Shows a change before it is confirmed. Returns a function that ends the preview. */
  preview(id, change) {
    this.#previews.set(id, change);
    return () => {
      if (this.#previews.get(id) === change) this.#previews.delete(id);
    };
  }

  get(id) {
    const card = this.#known.get(id)?.card;
    return card && { ...card, ...this.#previews.get(id) };
  }

  /** The cards of a column, from top to bottom. */
  inColumn(column) {
    return [...this.#known.keys()]
      .map((id) => this.get(id))
      .filter((card) => card?.column === column)
      .sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1));
  }

  #set(id, offset, card) {
    if (offset > (this.#known.get(id)?.offset ?? -1)) this.#known.set(id, { offset, card });
  }

  #advance(offset) {
    if (this.#position && offset > this.#position.offset) this.#position = { ...this.#position, offset };
  }
}
