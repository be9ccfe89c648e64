/** The cards of one board: what a person's event would change, and the change itself. No I/O. */

export interface Card {
  id: string;
  title: string;
  column: string;
  /** Place within the column, ascending. */
  order: number;
  author: string;
  /** The board's version at the card's last change. */
  version: number;
}

/** A change as it is published: whole cards, so that applying one twice does no harm. */
export type Change =
  | { event: "card.added" | "card.moved" | "card.renamed"; data: { card: Card } }
  | { event: "card.removed"; data: { id: string; version: number } };

export type Input = Readonly<Record<string, unknown>>;

/** The caller's mistake; the client receives code and message as they are. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const columns = ["todo", "doing", "done"];
const maxCards = 200;
const maxTitleLength = 140;
const starters = [
  { title: "Open this page in a second window", column: "todo" },
  { title: "Drag this card and watch the other window", column: "todo" },
  { title: "Double-click a card to rename it", column: "doing" },
  { title: "Start Tidegate", column: "done" },
];

export class Board {
  /** Grows with each change. It starts at the clock, so that it grows across restarts too. */
  #version = Date.now();
  readonly #cards = new Map<string, Card>();

  constructor() {
    for (const [order, starter] of starters.entries()) {
      const card = { ...starter, id: `starter-${order}`, order, author: "Tidegate", version: ++this.#version };
      this.#cards.set(card.id, card);
    }
  }

  snapshot(): { version: number; cards: Card[] } {
    return { version: this.#version, cards: [...this.#cards.values()] };
  }

  /**
   * What an event would change; nothing changes before {@link apply}.
   * @param eventId becomes the id of an added card, so a repeated event adds no second one.
   * @throws Refusal for an event or input that makes no sense here.
   */
  plan(event: string, input: Input, user: string, eventId: string): Change {
    const version = ++this.#version;
    if (event === "card.add") {
      const column = columnOf(input);
      const title = titleOf(input);
      const known = this.#cards.get(eventId);
      if (known) return { event: "card.added", data: { card: known } };
      if (this.#cards.size >= maxCards) throw new Refusal(409, "board_full", `a board has at most ${maxCards} cards`);
      const last = Math.max(0, ...[...this.#cards.values()].map(({ order }) => order));
      const card = { id: eventId, title, column, order: last + 1, author: user, version };
      return { event: "card.added", data: { card } };
    }
    const card = this.#cards.get(String(input["id"]));
    if (!card) throw new Refusal(404, "unknown_card", "there is no such card (any more)");
    switch (event) {
      case "card.move": {
        const place = { column: columnOf(input), order: numberOf(input, "order") };
        return { event: "card.moved", data: { card: { ...card, ...place, version } } };
      }
      case "card.rename":
        return { event: "card.renamed", data: { card: { ...card, title: titleOf(input), version } } };
      case "card.remove":
        return { event: "card.removed", data: { id: card.id, version } };
      default:
        throw new Refusal(404, "unknown_event", `this service does not know ${event}`);
    }
  }

  apply(change: Change): void {
    if (change.event === "card.removed") this.#cards.delete(change.data.id);
    else this.#cards.set(change.data.card.id, change.data.card);
  }
}

export function numberOf(input: Input, name: string): number {
  const value = input[name];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new Refusal(400, "bad_input", `${name} must be a number`);
}

function columnOf(input: Input): string {
  const { column } = input;
  if (typeof column === "string" && columns.includes(column)) return column;
  throw new Refusal(400, "bad_input", `column must be one of ${columns.join(", ")}`);
}

function titleOf(input: Input): string {
  const title = typeof input["title"] === "string" ? input["title"].trim() : "";
  if (title !== "" && title.length <= maxTitleLength) return title;
  throw new Refusal(400, "bad_input", `title must have 1 to ${maxTitleLength} characters`);
}
