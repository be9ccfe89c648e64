/** A client that moves by itself when it is asked to: connects elsewhere first, and leaves afterwards. */
import type { Drain, Position } from "../../shared/protocol/wire.ts";
import { connectClient, type Answer, type StockClient } from "./stock-client.ts";

type Meta = { offset?: number; user?: boolean } | undefined;

export class MovingClient {
  /** Offsets of the channel as the application sees them: what both connections bring counts once. */
  readonly offsets: number[] = [];
  readonly userMessages: unknown[] = [];
  /** Resolves once the old connection has been left. */
  readonly moved: Promise<void>;
  readonly #channel: string;
  readonly #elsewhere: (node: string) => string;
  readonly #pendingCalls = new Set<Promise<Answer>>();
  #position: Position = { epoch: "", offset: 0 };
  #current!: StockClient;
  #whenMoved: () => void = () => undefined;
  #asked: NodeJS.Timeout | undefined;

  private constructor(channel: string, elsewhere: (node: string) => string) {
    this.#channel = channel;
    this.#elsewhere = elsewhere;
    this.moved = new Promise((resolve) => {
      this.#whenMoved = resolve;
    });
  }

  /** @param options.elsewhere where the balancer would send it, from a node. */
  static async connect(options: {
    url: string;
    elsewhere: (node: string) => string;
    channel: string;
    claims: Record<string, unknown>;
  }): Promise<MovingClient> {
    const client = new MovingClient(options.channel, options.elsewhere);
    const first = await connectClient(options.url, options.claims, { moves: true });
    client.#listen(first);
    const ack = await first.subscribe(options.channel);
    client.#position = ack.position;
    client.#current = first;
    return client;
  }

  get connection(): StockClient {
    return this.#current;
  }

  async call(event: string, data: unknown): Promise<Answer> {
    const answer = this.#current.request(event, data);
    this.#pendingCalls.add(answer);
    try {
      return await answer;
    } finally {
      this.#pendingCalls.delete(answer);
    }
  }

  #listen(connection: StockClient): void {
    // What came with the welcome is there already.
    for (const { event, data, meta } of connection.received) this.#hear(event, data, meta as Meta);
    connection.socket.onAny((event: string, data: unknown, meta: Meta) => this.#hear(event, data, meta));
  }

  #hear(event: string, data: unknown, meta: Meta): void {
    if (meta?.offset !== undefined) this.#receive(meta.offset);
    if (meta?.user) this.userMessages.push(data);
    if (event === "sync:drain") this.#await(data as Drain);
  }

  #receive(offset: number): void {
    if (offset <= this.#position.offset) return;
    this.offsets.push(offset);
    this.#position = { ...this.#position, offset };
  }

  #await({ reconnectInMs }: Drain): void {
    clearTimeout(this.#asked);
    this.#asked = setTimeout(() => void this.#move(), reconnectInMs);
  }

  async #move(): Promise<void> {
    const old = this.#current;
    const auth = { token: undefined, resume: old.welcome.resumeToken, moves: true };
    const next = await connectClient(this.#elsewhere(old.welcome.node), {}, auth);
    this.#listen(next);
    this.#current = next;
    const ack = await next.subscribe(this.#channel, this.#position);
    if (!ack.recovered) throw new Error(`not recovered: ${JSON.stringify(ack)}`);
    for (const { offset } of ack.publications) this.#receive(offset);
    await Promise.all(this.#pendingCalls);
    old.socket.disconnect();
    this.#whenMoved();
  }
}
