/** What the service has to know of a conversation before it acts: rebuilt from the channel's history. No I/O. */
import type { Position } from "../shared/private-api.ts";

export interface Message {
  /** Facebook's id of a customer's message; `ce-id` of a reply. */
  id: string;
  from: "customer" | "operator";
  by: string;
  text: string;
  /** Unix time in milliseconds. */
  at: number;
  /** The operator's page knows its reply by this until it has the message. */
  draft?: string;
}

/** What the channel of a conversation carries. `sent` and `failed` tell what became of a reply. */
export type ConversationEvent =
  | { event: "message"; data: Message }
  | { event: "sent"; data: { id: string; mid: string } }
  | { event: "failed"; data: { id: string; reason: string } }
  | { event: "delivered"; data: { mids: string[] } };

/** Publications of the channel, in order, and where the channel stands. */
export interface Page {
  position: Position;
  publications: (ConversationEvent & { offset: number })[];
}

/** As many messages as the channel's history keeps: older ones are not repeated any more. */
const maxKnown = 500;

export class Conversation {
  /** Position of the last publication read; null before the first read. */
  #position: Position | null = null;
  readonly #messages = new Set<string>();
  readonly #settled = new Set<string>();

  get position(): Position | null {
    return this.#position;
  }

  /** @returns whether the channel has more publications than this page */
  follow({ position: { epoch, offset: end }, publications }: Page): boolean {
    for (const { event, data } of publications) {
      if (event === "message") remember(this.#messages, data.id);
      if (event === "sent" || event === "failed") remember(this.#settled, data.id);
    }
    const offset = publications.at(-1)?.offset ?? end;
    this.#position = { epoch, offset };
    return offset < end;
  }

  /** Whether the message is in the channel. */
  has(id: string): boolean {
    return this.#messages.has(id);
  }

  /** Whether the channel tells what became of the reply. */
  isSettled(id: string): boolean {
    return this.#settled.has(id);
  }
}

function remember(ids: Set<string>, id: string): void {
  ids.add(id);
  const [oldest] = ids;
  if (ids.size > maxKnown && oldest !== undefined) ids.delete(oldest);
}
