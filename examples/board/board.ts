/** The cards of one board at one position of its channel: plans changes and applies published ones. No I/O. */
import { Refusal } from "../shared/failures.ts";
import { type Input, numberOf, textOf } from "../shared/input.ts";
import type { Position } from "../shared/private-api.ts";

export interface Card {
  id: string;
  title: string;
  column: string;
  /** Place within the column, ascending. */
  order: number;
  author: string;
}

/** A change as published: whole cards, so that applying it twice does no harm. `by` is the user that made it. */
export type Change =
  | { event: "card.added" | "card.moved" | "card.renamed"; data: { card: Card; by: string } }
  | { event: "card.removed"; data: { id: string; by: string } };

/** Publications of the board's channel, in order, and the channel's position. Not all of them concern cards. */
export interface Page {
  position: Position;
  publications: ((Change | { event: "notice" }) & { offset: number })[];
}

const columns = ["todo", "doing", "done"];
const maxCards = 200;
/** Of a title or a notice. */
export const maxTextLength = 140;
const starters = [
  { title: "Open this page in a second window", column: "todo" },
  { title: "Drag this card and watch the other window", column: "todo" },
  { title: "Double-click a card to rename it", column: "doing" },
  { title: "Start Tidegate", column: "done" },
];

export class Board {
  /** Position of the last applied change; null before the first read. */
  #position: Position | null = null;
  readonly #cards = new Map<string, Card>();

  constructor() {
    for (const [order, starter] of starters.entries()) {
      const card = { ...starter, id: `starter-${order}`, order, author: "Tidegate" };
      this.#cards.set(card.id, card);
    }
  }

  get position(): Position | null {
    return this.#position;
  }

  snapshot(): { position: Position | null; cards: Card[] } {
    return { position: this.#position, cards: [...this.#cards.values()] };
  }

  /**
   * The change that an event asks for; {@link follow} applies it.
   * @param eventId becomes the id of an added card, so that a repeated event adds no second card.
   * @throws Refusal for an unknown event or invalid input.
   */
  plan(event: string, input: Input, user: string, eventId: string): Change {
    if (event === "card.add") {
      const column = columnOf(input);
      const title = textOf(input, "title", maxTextLength);
      const known = this.#cards.get(eventId);
      if (known) return { event: "card.added", data: { card: known, by: user } };
      if (this.#cards.size >= maxCards) throw new Refusal(409, "board_full", `a board has at most ${maxCards} cards`);
      const last = Math.max(0, ...[...this.#cards.values()].map(({ order }) => order));
      return {
        event: "card.added",
        data: { card: { id: eventId, title, column, order: last + 1, author: user }, by: user },
      };
    }
    const { id } = input;
    const card = typeof id === "string" ? this.#cards.get(id) : undefined;
    if (!card) throw new Refusal(404, "unknown_card", "no such card");
    switch (event) {
      case "card.move": {
        const place = { column: columnOf(input), order: numberOf(input, "order") };
        return { event: "card.moved", data: { card: { ...card, ...place }, by: user } };
      }
      case "card.rename":
        return {
          event: "card.renamed",
          data: { card: { ...card, title: textOf(input, "title", maxTextLength) }, by: user },
        };
      case "card.remove":
        return { event: "card.removed", data: { id: card.id, by: user } };
      default:
        throw new Refusal(404, "unknown_event", `this service does not know ${event}`);
    }
  }

  /** Applies the publications after this board's position; earlier ones have no effect. */
  follow({ position, publications }: Page): void {
    const { epoch } = position;
    const since = this.#position?.epoch === epoch ? this.#position.offset : -1;
    for (const publication of publications) {
      if (publication.offset <= since || !isChange(publication)) continue;
      if (publication.event === "card.removed") this.#cards.delete(publication.data.id);
      else this.#cards.set(publication.data.card.id, publication.data.card);
    }
    this.#position = { epoch, offset: Math.max(since, publications.at(-1)?.offset ?? position.offset) };
  }
}

function isChange(publication: Page["publications"][number]): publication is Change & { offset: number } {
  return publication.event.startsWith("card.");
}

export function positionOf(input: Input): Position {
  const { epoch, offset } = (input["position"] ?? {}) as Input;
  if (typeof epoch === "string" && Number.isSafeInteger(offset)) return { epoch, offset: Number(offset) };
  throw new Refusal(400, "bad_input", "position must be the position that the change is based on");
}

function columnOf(input: Input): string {
  const { column } = input;
  if (typeof column === "string" && columns.includes(column)) return column;
  throw new Refusal(400, "bad_input", `column must be one of ${columns.join(", ")}`);
}
