/** Live cursors: sends this window's at most 15 times a second, and shows those of the others. */
import { colourOf, initialsOf } from "./people.js";

const sendEveryMs = 66;
const fadeAfterMs = 6_000;
const goneAfterMs = 45_000;
/** Distinguishes two windows with the same name. */
const tab = Math.random().toString(36).slice(2, 10);

/**
 * Sends the pointer's position over `board`, as fractions of its size, so that windows of different sizes agree.
 * @param send `(cursor) => Promise`, called again only after its promise has settled.
 */
export function sendMyCursor(board, heldCard, send) {
  let latest = null;
  let sentAt = 0;
  let sending = false;
  board.addEventListener("pointermove", note);
  // Reports a dropped card even if the pointer no longer moves.
  board.addEventListener("pointerup", note);

  function note({ clientX, clientY }) {
    if (latest === null) requestAnimationFrame(step);
    const { left, top, width, height } = board.getBoundingClientRect();
    latest = { x: (clientX - left) / width, y: (clientY - top) / height };
  }

  function step(now) {
    if (sending || now - sentAt < sendEveryMs) return requestAnimationFrame(step);
    const cursor = { tab, ...latest, card: heldCard() };
    latest = null;
    sentAt = now;
    sending = true;
    // The next cursor replaces a lost one.
    send(cursor)
      .catch(() => {})
      .finally(() => (sending = false));
  }
}

/** The cursors of the other windows, and the list of active people that follows from them. */
export class Cursors {
  #layer;
  #people;
  #me;
  #onRest;
  /** By tab. */
  #others = new Map();

  /** @param options.onRest called when a user who does not move any more stops holding a card. */
  constructor({ layer, people, me, onRest }) {
    this.#layer = layer;
    this.#people = people;
    this.#me = me;
    this.#onRest = onRest;
    setInterval(() => this.#tidy(), 1_000);
    this.#showPeople();
  }

  /** A `cursor` publication. */
  show({ user, tab: from, x, y, card }) {
    if (from === tab) return;
    let other = this.#others.get(from);
    if (!other) {
      const element = document.createElement("div");
      element.className = "cursor";
      element.style.setProperty("--colour", colourOf(user));
      const label = element.appendChild(document.createElement("span"));
      label.textContent = user;
      this.#layer.append(element);
      other = { user, element };
      this.#others.set(from, other);
    }
    Object.assign(other, { card, seenAt: performance.now() });
    other.element.style.translate = `${x * this.#layer.clientWidth}px ${y * this.#layer.clientHeight}px`;
    other.element.classList.remove("resting");
    this.#showPeople();
  }

  /** The name of the other user who is dragging this card, if any. */
  holderOf(cardId) {
    return [...this.#others.values()].find(({ card }) => card === cardId)?.user;
  }

  #tidy() {
    for (const [from, other] of this.#others) {
      const restedMs = performance.now() - other.seenAt;
      if (restedMs > fadeAfterMs) {
        other.element.classList.add("resting");
        if (other.card) {
          other.card = null;
          this.#onRest();
        }
      }
      if (restedMs < goneAfterMs) continue;
      other.element.remove();
      this.#others.delete(from);
    }
    this.#showPeople();
  }

  #showPeople() {
    const names = [...new Set([this.#me, ...[...this.#others.values()].map(({ user }) => user)])];
    if (names.join("\n") === this.#people.dataset.names) return;
    this.#people.dataset.names = names.join("\n");
    this.#people.replaceChildren(
      ...names.map((name) => {
        const item = document.createElement("li");
        item.textContent = initialsOf(name);
        item.title = name === this.#me ? `${name} (you)` : name;
        item.style.setProperty("--colour", colourOf(name));
        return item;
      }),
    );
  }
}
