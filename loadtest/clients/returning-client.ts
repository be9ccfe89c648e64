/** A client of one channel that reconnects from an old position; thousands of them fit into one process. */
import type { Position, SubscribeAck } from "../../shared/protocol/wire.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { Sequence } from "../checks/sequence.ts";

export interface ReturningClientOptions {
  readonly url: URL;
  readonly token: string;
  readonly channel: string;
  /** The last publication that the client had before it left. */
  readonly from: Position;
}

type Ack = (SubscribeAck & { ok: true }) | { ok: false; error: { code: string } };

/** Connects once, recovers, follows its channel, and counts what is missing or comes twice. */
export class ReturningClient {
  readonly sequence: Sequence;
  readonly #options: ReturningClientOptions;
  #client: RawClient | undefined;
  #closing = false;
  /** From dialling to the subscribe's ack. */
  returnedInMs: number | undefined;
  recovered = false;
  /** Publications that the ack replayed. */
  replayed = 0;
  /** Why recovery or the connection failed: a reason, an error code or a message. */
  trouble: string | undefined;

  constructor(options: ReturningClientOptions) {
    this.#options = options;
    this.sequence = new Sequence(options.from.offset);
  }

  /** Resolves with the subscribe's ack, or once it can no longer come. */
  async connect(): Promise<void> {
    const { url, token, channel, from: position } = this.#options;
    const startedAt = performance.now();
    try {
      const client = await RawClient.connect(url, token);
      this.#client = client;
      client.onEvent = (event, _data, { offset, prev }) => {
        if (event.startsWith("sync:")) this.trouble ??= event;
        else if (offset !== undefined) this.sequence.take(offset, prev);
      };
      const closed = client.closed.then(() => {
        if (!this.#closing) this.trouble ??= "closed";
      });
      const acked = client.request("sync:subscribe", { channel, position }, (ack) => {
        this.returnedInMs = performance.now() - startedAt;
        this.#subscribed(ack as Ack);
      });
      await Promise.race([acked, closed]);
    } catch (error) {
      this.trouble ??= (error as Error).message;
    }
  }

  close(): void {
    this.#closing = true;
    this.#client?.socket.destroy();
  }

  #subscribed(ack: Ack): void {
    if (!ack.ok) this.trouble = ack.error.code;
    else if (!ack.recovered) this.trouble = ack.reason ?? "no reason";
    else {
      this.recovered = true;
      this.replayed = ack.publications.length;
      for (const { offset, prev } of ack.publications) this.sequence.take(offset, prev);
      this.sequence.standAt(ack.position.offset);
    }
  }
}
