/** The shared board: subscribe, take a snapshot, apply what comes; show a change at once, take it back if it fails. */
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
/** The card that I hold: its id, where it would go, and what takes that away from the screen. */
let drag = null;

const client = connect({ url: location.origin, token: fetchToken });
client.onState(showState);
const channel = client.channel(`board:${boardId}`);
for (const event of ["card.added", "card.moved", "card.renamed", "card.removed"]) channel.on(event, learn);
channel.on("notice", ({ text }) => notify(text));
channel.on("cursor", (cursor) => {
  cursors.show(cursor);
  render();
});
channel.onResync(load);
channel.onEnd(({ code, reason }) => notify(`This board is closed: ${reason} (${code})`));
sendMyCursor(
  board,
  () => drag?.id ?? null,
  (cursor) => client.call("cursor", { board: boardId, ...cursor }),
);
// Subscribed first: what changes while the snapshot is on its way comes as publications.
await channel.subscribe();
await load();

async function fetchToken() {
  const response = await fetch(`/demo/token?user=${encodeURIComponent(me)}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

async function load() {
  try {
    cards.load(await persistently("board.load", {}));
    board.classList.add("loaded");
    render();
  } catch (error) {
    notify(`The board could not be loaded: ${error.message}`);
  }
}

function learn(data) {
  cards.apply(data);
  render();
}

/** Shows `hope` until the service has answered; a refusal takes it back. */
async function change(event, data, hope) {
  const letGo = hope ? cards.hope(data.id, hope) : () => {};
  render();
  try {
    cards.apply(await persistently(event, data));
  } catch (error) {
    notify(`That did not work: ${error.message}`);
    if (error.code === "unknown_card") void load();
  } finally {
    letGo();
    render();
  }
}

/** Calls again where that may help. The same id each time: the service sees that it is one action. */
async function persistently(event, data, tries = 5) {
  const id = `${Date.now()}-${Math.random()}`;
  for (let attempt = 1; ; attempt++) {
    try {
      return await client.call(event, { board: boardId, ...data }, { id });
    } catch (error) {
      if (!error.retryable || attempt === tries) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 300 * attempt));
    }
  }
}

function render() {
  const before = new Map([...elements].map(([id, element]) => [id, whereIs(element)]));
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

/** Place in the layout, and the point where it shows: those differ while it glides. */
function whereIs(element) {
  const { left, top } = element.getBoundingClientRect();
  return { layout: `${element.offsetLeft},${element.offsetTop}`, left, top };
}

/** From where it showed to where it belongs, if that has changed. */
function glide(element, before) {
  if (!before || before.layout === whereIs(element).layout) return;
  for (const animation of element.getAnimations()) animation.cancel();
  const { left, top } = whereIs(element);
  const from = { transform: `translate(${before.left - left}px, ${before.top - top}px)` };
  element.animate([from, { transform: "none" }], { duration: 200, easing: "ease-out" });
}

function create({ id }) {
  const element = template.content.firstElementChild.cloneNode(true);
  const title = element.querySelector(".title");
  element.dataset.id = id;
  element.querySelector(".remove").onclick = () => change("card.remove", { id }, { column: null });
  element.onpointerdown = (event) => lift(event, element);
  element.ondblclick = () => {
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
    if (text !== "" && text !== cards.get(id)?.title) void change("card.rename", { id, title: text }, { title: text });
    else render();
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

/** A press on a card becomes a drag once the pointer has moved. */
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
      drag = { id: element.dataset.id, letGo: () => {} };
    }
    ghost.style.translate = `${dx}px ${dy}px`;
    drag.letGo();
    drag.place = placeAt(clientX, clientY, drag.id);
    drag.letGo = cards.hope(drag.id, drag.place);
    render();
  }

  function end(dropped) {
    listening.abort();
    if (!drag) return;
    const { id, place, letGo } = drag;
    drag = null;
    ghost.remove();
    letGo();
    if (dropped && cards.get(id)) void change("card.move", { id, ...place }, place);
    else render();
  }
}

/** Column and order of a card that is let go at this point. */
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
