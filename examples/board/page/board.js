/**
 * The shared board: subscribe, load a snapshot, apply publications. A change shows at once and is undone if it fails.
 *
 * Each change names the position it is based on. If the board has changed since, the first change of a card wins: a later
 * change of the same card by another user is undone with a notice, a change of any other card is retried.
 */
import { connect } from "/tidegate.js";
import { Cards } from "./cards.js";
import { Cursors, sendMyCursor } from "./cursors.js";
import { colourOf, myName } from "./people.js";

const boardId = new URLSearchParams(location.search).get("board") ?? "demo";
const me = myName();
const board = document.querySelector("#board");
const columns = [...board.querySelectorAll(".column")];
const template = document.querySelector("template#card");
const cards = new Cards();
const elements = new Map();
const cursors = new Cursors({
  layer: document.querySelector("#cursors"),
  people: document.querySelector("#people"),
  me,
  onRest: render,
});
/** The drag under way: card id, position when it began, target place, and a function that undoes the preview. */
let drag = null;
/** Resolves when the newest snapshot is loaded, or failed to load. */
let loading = Promise.resolve();
/** Resolves when this window's last change is settled: changes are sent one after another. */
let lastChange = Promise.resolve();

// Changes made without a connection wait for it.
const client = connect({ url: location.origin, token: fetchToken, offline: { maxCalls: 20 } });
client.onState(showState);
const channel = client.channel(`board:${boardId}`);
for (const event of ["card.added", "card.moved", "card.renamed", "card.removed"]) channel.on(event, apply);
channel.on("notice", ({ text }, meta) => {
  cards.apply({}, meta);
  notify(text);
});
channel.on("cursor", (cursor) => {
  cursors.show(cursor);
  render();
});
channel.onResync(() => {
  cards.invalidate();
  load();
});
channel.onEnd(({ code, reason }) => notify(`This board is closed: ${reason} (${code})`));
sendMyCursor(
  board,
  () => drag?.id ?? null,
  (cursor) => client.call("cursor", { board: boardId, ...cursor }, { offline: false }),
);
// Subscribe first: changes made while the snapshot loads arrive as publications.
await channel.subscribe();
await load();

async function fetchToken() {
  const response = await fetch(`/demo/token?user=${encodeURIComponent(me)}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

function load() {
  loading = call("board.load", {}).then(
    (snapshot) => {
      cards.load(snapshot);
      board.classList.add("loaded");
      render();
    },
    (error) => notify(`The board could not be loaded: ${error.message}`),
  );
  return loading;
}

function apply(data, meta) {
  cards.apply(data, meta);
  render();
}

/**
 * Shows `preview` until the service has answered.
 *
 * @param basedOn the position that the user saw when the change began
 */
async function change(event, data, { preview, basedOn = cards.position } = {}) {
  const endPreview = preview ? cards.preview(data.id, preview) : () => {};
  render();
  try {
    const turn = Promise.all([loading, lastChange]).then(() => sendChange(event, data, basedOn ?? cards.position));
    lastChange = turn.catch(() => {});
    cards.confirm(await turn);
  } catch (error) {
    if (error.code === "unknown_card") void load();
    if (error.code !== "unknown_card" || event !== "card.remove") notify(`That did not work: ${error.message}`);
  } finally {
    endPreview();
    render();
  }
}

/** Makes the change unless another user has changed the card since `position`. Every try has the same id: it is one action. */
async function sendChange(event, data, position, triesLeft = 5, id = `${Date.now()}-${Math.random()}`) {
  try {
    return await call(event, { ...data, position }, id);
  } catch (error) {
    const { conflict } = error;
    if (!conflict) throw error;
    if (!bridges(position, conflict)) {
      await load();
      throw new Error("the board has changed");
    }
    for (const publication of conflict.publications) cards.apply(publication.data, publication);
    const rival = conflict.publications.findLast(
      ({ data: { card, id, by } }) => data.id && (card?.id ?? id) === data.id && by !== me,
    );
    if (rival) throw new Error(`${rival.data.by} was first`);
    if (triesLeft === 1) throw new Error("too many changes at once, try again");
    return sendChange(event, data, conflict.position, triesLeft - 1, id);
  }
}

/** Whether the conflict's publications lead from `position` to the channel's end without a gap. */
function bridges(position, { position: end, publications: [...missed] }) {
  const first = missed[0];
  const follows = first && (first.prev ?? first.offset - 1) === position.offset;
  return position.epoch === end.epoch && follows && missed.at(-1).offset === end.offset;
}

/** The SDK repeats retryable failures with the same id, so that the service recognises one action. */
function call(event, data, id = `${Date.now()}-${Math.random()}`) {
  return client.call(event, { board: boardId, ...data }, { id, repeat: true });
}

function render() {
  const before = new Map([...elements].map(([id, element]) => [id, placeOf(element)]));
  const shown = new Set();
  for (const column of columns) {
    const list = column.querySelector(".cards");
    const wanted = cards.inColumn(column.dataset.column);
    column.querySelector(".count").textContent = wanted.length;
    wanted.forEach((card, index) => {
      shown.add(card.id);
      const element = elements.get(card.id) ?? create(card);
      paint(element, card);
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    });
  }
  for (const [id, element] of elements) {
    if (shown.has(id)) glide(element, before.get(id));
    else {
      element.remove();
      elements.delete(id);
    }
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

function create({ id }) {
  const element = template.content.firstElementChild.cloneNode(true);
  const title = element.querySelector(".title");
  element.dataset.id = id;
  element.querySelector(".remove").onclick = () => change("card.remove", { id }, { preview: { column: null } });
  element.onpointerdown = (event) => lift(event, element);
  let basedOn;
  element.ondblclick = () => {
    basedOn = cards.position;
    title.contentEditable = "plaintext-only";
    title.focus();
    getSelection().selectAllChildren(title);
  };
  title.onkeydown = (event) => {
    if (event.key === "Escape") title.textContent = cards.get(id)?.title;
    if (event.key === "Escape" || event.key === "Enter") title.blur();
  };
  title.onblur = () => {
    const text = title.textContent.trim();
    title.contentEditable = "false";
    if (text !== "" && text !== cards.get(id)?.title) {
      void change("card.rename", { id, title: text }, { preview: { title: text }, basedOn });
    } else render();
  };
  elements.set(id, element);
  return element;
}

function paint(element, { id, title, author }) {
  const holder = cursors.holderOf(id);
  const text = element.querySelector(".title");
  if (!text.isContentEditable && text.textContent !== title) text.textContent = title;
  element.querySelector(".author").textContent = holder ? `${holder} is moving this` : author;
  element.style.setProperty("--colour", colourOf(author));
  element.style.setProperty("--holder", holder ? colourOf(holder) : "");
  element.classList.toggle("held", holder !== undefined);
  element.classList.toggle("lifted", drag?.id === id);
}

/** A press on a card becomes a drag after 5 pixels. */
function lift(press, element) {
  if (press.button !== 0 || drag || press.target.closest("button, [contenteditable='plaintext-only']")) return;
  const { left, top, width } = element.getBoundingClientRect();
  const listening = new AbortController();
  let ghost = null;
  addEventListener("pointermove", move, listening);
  addEventListener("pointerup", () => end(true), listening);
  addEventListener("pointercancel", () => end(false), listening);

  function move({ clientX, clientY }) {
    const [dx, dy] = [clientX - press.clientX, clientY - press.clientY];
    if (!drag) {
      if (Math.hypot(dx, dy) < 5) return;
      board.setPointerCapture(press.pointerId);
      ghost = document.body.appendChild(element.cloneNode(true));
      ghost.classList.add("ghost");
      Object.assign(ghost.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
      drag = { id: element.dataset.id, basedOn: cards.position, endPreview: () => {} };
    }
    ghost.style.translate = `${dx}px ${dy}px`;
    drag.endPreview();
    drag.place = placeAt(clientX, clientY, drag.id);
    drag.endPreview = cards.preview(drag.id, drag.place);
    render();
  }

  function end(dropped) {
    listening.abort();
    if (!drag) return;
    const { id, basedOn, place, endPreview } = drag;
    drag = null;
    ghost.remove();
    endPreview();
    if (dropped && cards.get(id)) void change("card.move", { id, ...place }, { preview: place, basedOn });
    else render();
  }
}

/** Column and order of a card that is dropped at this point. */
function placeAt(x, y, id) {
  const boxes = columns.map((column) => column.getBoundingClientRect());
  const under = boxes.findIndex(({ right }) => x < right);
  const column = columns.at(under).dataset.column;
  const others = cards.inColumn(column).filter((card) => card.id !== id);
  const boardTop = board.getBoundingClientRect().top;
  const below = others.findIndex((card) => {
    const { offsetTop, offsetHeight } = elements.get(card.id);
    return y < boardTop + offsetTop + offsetHeight / 2;
  });
  const after = below === -1 ? undefined : others[below];
  const before = others.at(below === -1 ? -1 : below - 1);
  if (!after) return { column, order: (before?.order ?? 0) + 1 };
  if (below === 0) return { column, order: after.order - 1 };
  return { column, order: (before.order + after.order) / 2 };
}

for (const column of columns) {
  column.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const { title } = event.target.elements;
    if (title.value.trim() !== "") void change("card.add", { title: title.value, column: column.dataset.column });
    title.value = "";
  };
}

function showState({ status, reason }) {
  const words = { connecting: "Connecting", connected: "Live", waiting: "Reconnecting", closed: "Offline" };
  const badge = document.querySelector("#state");
  badge.textContent = words[status];
  badge.dataset.status = status;
  badge.title = reason?.message ?? "";
}

function notify(text) {
  const notice = document.querySelector("#notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => (notice.hidden = true), 5_000);
}
