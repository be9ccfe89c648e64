/**
 * The shared board: subscribe, load a snapshot, apply publications. A change shows at once and is undone if it fails.
 *
 * Each change names the position it is based on. If the board has changed since, the first change of a card wins: a later
 * change of the same card by another user is undone with a notice, a change of any other card is retried.
 */
import { connect } from "/tidegate.js";
import { Cards } from "./cards.js";
import { Cursors, sendMyCursor } from "./cursors.js";
import { fetchToken, notify, showState } from "./demo.js";
import { myName } from "./people.js";
import { BoardView } from "./view.js";

const boardId = new URLSearchParams(location.search).get("board") ?? "demo";
const me = myName();
const board = document.querySelector("#board");
const cards = new Cards();
const cursors = new Cursors({
  layer: document.querySelector("#cursors"),
  people: document.querySelector("#people"),
  me,
  onRest: () => view.render(),
});
const view = new BoardView({ board, template: document.querySelector("template#card"), cards, cursors, change, add });
/** Resolves when the newest snapshot is loaded, or failed to load. */
let loading = Promise.resolve();
/** Resolves when this window's last change is settled: changes are sent one after another. */
let lastChange = Promise.resolve();

// Changes made without a connection wait for it.
const client = connect({ url: location.origin, token: () => fetchToken(me), offline: { maxCalls: 20 } });
client.onState(showState);
const channel = client.channel(`board:${boardId}`);
for (const event of ["card.added", "card.moved", "card.renamed", "card.removed"]) channel.on(event, apply);
channel.on("notice", ({ text }, meta) => {
  cards.apply({}, meta);
  notify(text);
});
channel.on("cursor", (cursor) => {
  cursors.show(cursor);
  view.render();
});
channel.onResync(() => {
  cards.invalidate();
  load();
});
channel.onEnd(({ code, reason }) => notify(`This board is closed: ${reason} (${code})`));
sendMyCursor(
  board,
  () => view.heldCard,
  (cursor) => client.call("cursor", { board: boardId, ...cursor }, { offline: false }),
);
// Subscribe first: changes made while the snapshot loads arrive as publications.
await channel.subscribe();
await load();

function load() {
  loading = call("board.load", {}).then(
    (snapshot) => {
      cards.load(snapshot);
      board.classList.add("loaded");
      view.render();
    },
    (error) => notify(`The board could not be loaded: ${error.message}`),
  );
  return loading;
}

function apply(data, meta) {
  cards.apply(data, meta);
  view.render();
}

/**
 * Shows `preview` until the service has answered.
 *
 * @param basedOn the position that the user saw when the change began
 */
async function change(event, data, { preview, basedOn = cards.position } = {}) {
  const endPreview = preview ? cards.preview(data.id, preview) : () => {};
  view.render();
  try {
    const turn = Promise.all([loading, lastChange]).then(() => sendChange(event, data, basedOn ?? cards.position));
    lastChange = turn.catch(() => {});
    cards.confirm(await turn);
  } catch (error) {
    if (error.code === "unknown_card") void load();
    if (error.code !== "unknown_card" || event !== "card.remove") notify(`That did not work: ${error.message}`);
  } finally {
    endPreview();
    view.render();
  }
}

/** A new card is queued: the answer says that it is stored, and the card arrives as a publication. */
async function add(data) {
  try {
    await call("card.add", data);
  } catch (error) {
    notify(`That did not work: ${error.message}`);
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
