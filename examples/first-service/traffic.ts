/** Clients that write and follow notes all the time, and the ledger of what was acknowledged and what arrived. */
import { setTimeout as wait } from "node:timers/promises";
import { SignJWT } from "jose";
import { type Client, connect, TidegateError } from "../../client/src/index.ts";

const pauseMs = 50;
const arriveWithinMs = 30_000;
const channel = "notes:1";

interface Note {
  author: string;
  text: string;
}

export interface Figures {
  acknowledged: number;
  /** Acknowledged, and not seen by some client. */
  lost: number;
  /** Seen twice by some client. */
  doubled: number;
  /** Resyncs that clients got. */
  resyncs: number;
  /** Notes without an acknowledgement in time: no client knows whether they are stored. */
  unanswered: number;
}

export class Traffic {
  readonly #clients: readonly Client[];
  readonly #acknowledged = new Set<string>();
  /** By client: each note with how often it arrived. */
  readonly #seen: Map<string, number>[] = [];
  #writing: readonly Promise<void>[] = [];
  readonly #stopped = new AbortController();
  #resyncs = 0;
  #unanswered = 0;

  readonly authors: readonly string[];

  private constructor(authors: readonly string[], clients: readonly Client[]) {
    this.authors = authors;
    this.#clients = clients;
  }

  /**
   * Every client follows the channel before the first one writes.
   * @param options.secret of the tokens, read for each.
   */
  static async start(options: { url: string; clients: number; secret: () => string }): Promise<Traffic> {
    const { url, secret } = options;
    const authors = Array.from({ length: options.clients }, (_, at) => `user-${at + 1}`);
    const token = (author: string) => async (): Promise<string> => tokenFor(author, secret());
    const clients = authors.map((author) => connect({ url, token: token(author), offline: {} }));
    const traffic = new Traffic(authors, clients);
    await Promise.all(traffic.#clients.map(async (client) => traffic.#follow(client)));
    traffic.#writing = traffic.#clients.map(async (client, at) => traffic.#write(client, authors[at] ?? ""));
    return traffic;
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  get connected(): number {
    return this.#clients.filter(({ state }) => state.status === "connected").length;
  }

  /** Ends the writing, waits until everything has arrived, and closes the clients. */
  async finish(): Promise<Figures> {
    this.#stopped.abort();
    await Promise.all(this.#writing);
    const deadline = performance.now() + arriveWithinMs;
    while (this.#lost > 0 && performance.now() < deadline) await wait(pauseMs);
    const doubled = this.#seen.reduce((sum, seen) => sum + [...seen.values()].filter((times) => times > 1).length, 0);
    for (const client of this.#clients) client.close();
    const figures = { acknowledged: this.acknowledged, lost: this.#lost, doubled };
    return { ...figures, resyncs: this.#resyncs, unanswered: this.#unanswered };
  }

  get #lost(): number {
    return this.#seen.reduce(
      (most, seen) => Math.max(most, [...this.#acknowledged].filter((text) => !seen.has(text)).length),
      0,
    );
  }

  async #follow(client: Client): Promise<void> {
    const seen = new Map<string, number>();
    this.#seen.push(seen);
    const notes = client.channel<{ "note.added": Note }>(channel);
    notes.on("note.added", ({ text }) => void seen.set(text, (seen.get(text) ?? 0) + 1));
    notes.onResync(() => this.#resyncs++);
    await notes.subscribe();
  }

  async #write(client: Client, author: string): Promise<void> {
    for (let n = 1; !this.#stopped.signal.aborted; n++) {
      const note: Note = { author, text: `${author}/${n}` };
      // Every third one is queued: its ack means stored.
      const event = n % 3 === 0 ? "note.later" : "note.add";
      try {
        await client.call(event, note, { id: note.text, repeat: true, withinMs: 60_000 });
        this.#acknowledged.add(note.text);
      } catch (error) {
        if (!(error instanceof TidegateError)) throw error;
        this.#unanswered++;
      }
      await wait(pauseMs);
    }
  }
}

export async function tokenFor(user: string, secret: string, expiresIn = "1h"): Promise<string> {
  return new SignJWT({ channels: ["notes:*"] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(new TextEncoder().encode(secret));
}
