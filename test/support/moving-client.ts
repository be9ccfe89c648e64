/** A client that moves by itself when it is asked to: connects elsewhere first, and leaves afterwards. */
import type { Drain, Position, SubscribeAck } from "../../shared/protocol/wire.ts";
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
  #leaving: StockClient | undefined;

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
    const hear = (event: string, data: unknown, meta: Meta): void => {
      if (meta?.offset !== undefined) this.#receive(meta.offset);
      if (meta?.user) this.userMessages.push(data);
      if (event === "sync:drain") this.#await(connection, data as Drain);
    };
    for (const { event, data, meta } of connection.received) hear(event, data, meta as Meta);
    connection.socket.onAny(hear);
  }

  #receive(offset: number): void {
    if (offset <= this.#position.offset) return;
    this.offsets.push(offset);
    this.#position = { ...this.#position, offset };
  }

  #await(from: StockClient, { reconnectInMs }: Drain): void {
    // A slot that shifts while the move is under way says nothing any more.
    if (this.#leaving === from) return;
    clearTimeout(this.#asked);
    this.#asked = setTimeout(() => void this.#move(from), reconnectInMs);
  }

  async #move(old: StockClient): Promise<void> {
    this.#leaving = old;
    const auth = { token: undefined, resume: old.welcome.resumeToken, moves: true };
    const next = await connectClient(this.#elsewhere(old.welcome.node), {}, auth);
    this.#listen(next);
    this.#current = next;
    const request = { channel: this.#channel, position: this.#position };
    // What is live follows the ack at once, in the same breath.
    await new Promise<void>((resolve, reject) => {
      next.socket.emit("sync:subscribe", request, (ack: SubscribeAck) => {
        if (!ack.recovered) return reject(new Error(`not recovered: ${JSON.stringify(ack)}`));
        for (const { offset } of ack.publications) this.#receive(offset);
        resolve();
      });
    });
    await Promise.all(this.#pendingCalls);
    old.socket.disconnect();
    this.#whenMoved();
  }
}
