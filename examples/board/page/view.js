/** The cards on the screen, and the gestures that change them. */
import { colourOf } from "./people.js";

export class BoardView {
  #board;
  #columns;
  #template;
  #cards;
  #cursors;
  #change;
  #add;
  /** By card id. */
  #elements = new Map();
  /** The drag under way: card id, position when it began, target place, and a function that ends the preview. */
  #drag = null;

  /**
   * @param options.change called with the event, its data, and `{ preview, basedOn }` for each change of a card
   * @param options.add called with the title and column of each new card
   */
  constructor({ board, template, cards, cursors, change, add }) {
    this.#board = board;
    this.#columns = [...board.querySelectorAll(".column")];
    this.#template = template;
    this.#cards = cards;
    this.#cursors = cursors;
    this.#change = change;
    this.#add = add;
    for (const column of this.#columns) this.#addForm(column);
  }

  /** Id of the card that the user drags, or null. */
  get heldCard() {
    return this.#drag?.id ?? null;
  }

  render() {
    const before = new Map([...this.#elements].map(([id, element]) => [id, placeOf(element)]));
    const shown = new Set();
    for (const column of this.#columns) {
      const list = column.querySelector(".cards");
      const wanted = this.#cards.inColumn(column.dataset.column);
      column.querySelector(".count").textContent = wanted.length;
      wanted.forEach((card, index) => {
        shown.add(card.id);
        const element = this.#elements.get(card.id) ?? this.#create(card);
        this.#paint(element, card);
        if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
      });
    }
    for (const [id, element] of this.#elements) {
      if (shown.has(id)) glide(element, before.get(id));
      else {
        element.remove();
        this.#elements.delete(id);
      }
    }
  }

  #addForm(column) {
    column.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const { title } = event.target.elements;
      if (title.value.trim() !== "") this.#add({ title: title.value, column: column.dataset.column });
      title.value = "";
    };
  }

  #create({ id }) {
    const element = this.#template.content.firstElementChild.cloneNode(true);
    const title = element.querySelector(".title");
    element.dataset.id = id;
    element.querySelector(".remove").onclick = () => this.#change("card.remove", { id }, { preview: { column: null } });
    element.onpointerdown = (event) => this.#startDrag(event, element);
    let basedOn;
    element.ondblclick = () => {
      basedOn = this.#cards.position;
      title.contentEditable = "plaintext-only";
      title.focus();
      getSelection().selectAllChildren(title);
    };
    title.onkeydown = (event) => {
      if (event.key === "Escape") title.textContent = this.#cards.get(id)?.title;
      if (event.key === "Escape" || event.key === "Enter") title.blur();
    };
    title.onblur = () => {
      const text = title.textContent.trim();
      title.contentEditable = "false";
      if (text !== "" && text !== this.#cards.get(id)?.title) {
        this.#change("card.rename", { id, title: text }, { preview: { title: text }, basedOn });
      } else this.render();
    };
    this.#elements.set(id, element);
    return element;
  }

  #paint(element, { id, title, author }) {
    const holder = this.#cursors.holderOf(id);
    const text = element.querySelector(".title");
    if (!text.isContentEditable && text.textContent !== title) text.textContent = title;
    element.querySelector(".author").textContent = holder ? `${holder} is moving this` : author;
    element.style.setProperty("--colour", colourOf(author));
    element.style.setProperty("--holder", holder ? colourOf(holder) : "");
    element.classList.toggle("held", holder !== undefined);
    element.classList.toggle("lifted", this.heldCard === id);
  }

  /** A press on a card becomes a drag after 5 pixels. */
  #startDrag(press, element) {
    if (press.button !== 0 || this.#drag || press.target.closest("button, [contenteditable='plaintext-only']")) return;
    const { left, top, width } = element.getBoundingClientRect();
    const listening = new AbortController();
    let ghost = null;

    const move = ({ clientX, clientY }) => {
      const [dx, dy] = [clientX - press.clientX, clientY - press.clientY];
      if (!this.#drag) {
        if (Math.hypot(dx, dy) < 5) return;
        this.#board.setPointerCapture(press.pointerId);
        ghost = document.body.appendChild(element.cloneNode(true));
        ghost.classList.add("ghost");
        Object.assign(ghost.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
        this.#drag = { id: element.dataset.id, basedOn: this.#cards.position, endPreview: () => {} };
      }
      const drag = this.#drag;
      ghost.style.translate = `${dx}px ${dy}px`;
      drag.endPreview();
      drag.place = this.#placeAt(clientX, clientY, drag.id);
      drag.endPreview = this.#cards.preview(drag.id, drag.place);
      this.render();
    };
    const end = (dropped) => {
      listening.abort();
      if (!this.#drag) return;
      const { id, basedOn, place, endPreview } = this.#drag;
      this.#drag = null;
      ghost.remove();
      endPreview();
      if (dropped && this.#cards.get(id)) this.#change("card.move", { id, ...place }, { preview: place, basedOn });
      else this.render();
    };
    addEventListener("pointermove", move, listening);
    addEventListener("pointerup", () => end(true), listening);
    addEventListener("pointercancel", () => end(false), listening);
  }

  /** Column and order of a card that is dropped at this point. */
  #placeAt(x, y, id) {
    const boxes = this.#columns.map((column) => column.getBoundingClientRect());
    const under = boxes.findIndex(({ right }) => x < right);
    const column = this.#columns.at(under).dataset.column;
    const others = this.#cards.inColumn(column).filter((card) => card.id !== id);
    const boardTop = this.#board.getBoundingClientRect().top;
    const below = others.findIndex((card) => {
      const { offsetTop, offsetHeight } = this.#elements.get(card.id);
      return y < boardTop + offsetTop + offsetHeight / 2;
    });
    const after = below === -1 ? undefined : others[below];
    const before = others.at(below === -1 ? -1 : below - 1);
    if (!after) return { column, order: (before?.order ?? 0) + 1 };
    if (below === 0) return { column, order: after.order - 1 };
    return { column, order: (before.order + after.order) / 2 };
  }
}

/** Place in the layout, and position on the screen: the two differ during an animation. */
function placeOf(element) {
  const { left, top } = element.getBoundingClientRect();
  return { layout: `${element.offsetLeft},${element.offsetTop}`, left, top };
}

/** Animates the element from its earlier screen position to its new place. */
function glide(element, before) {
  if (!before || before.layout === placeOf(element).layout) return;
  for (const animation of element.getAnimations()) animation.cancel();
  const { left, top } = placeOf(element);
  const from = { transform: `translate(${before.left - left}px, ${before.top - top}px)` };
  element.animate([from, { transform: "none" }], { duration: 200, easing: "ease-out" });
}
