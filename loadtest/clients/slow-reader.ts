/** A client that follows many channels, stops reading, and later recovers all of them. */
import { setTimeout as pause } from "node:timers/promises";
import type { RawClient } from "../../test/support/raw-client.ts";
import { Sequence } from "../checks/sequence.ts";

/** Time to reconnect, and then for all channels to be answered. */
const returnWithinMs = 60_000;
const noticeCloseWithinMs = 20_000;
const reconnectEveryMs = 1_000;

interface FollowedChannel {
  readonly epoch: string;
  readonly sequence: Sequence;
}

export interface SlowReaderOptions {
  readonly channels: readonly string[];
  readonly connect: () => Promise<RawClient>;
  readonly onError: (error: unknown) => void;
}

export class SlowReader {
  readonly #options: SlowReaderOptions;
  readonly #channels = new Map<string, FollowedChannel>();
  #client: RawClient | undefined;
  /** By `performance.now()`. */
  #stoppedAt = 0;
  /** Channels whose recovery was refused with a reason. */
  #refused = 0;

  constructor(options: SlowReaderOptions) {
    this.#options = options;
  }

  /** Resolves once the client follows every channel. */
  async start(): Promise<void> {
    const client = await this.#connect();
    for (const channel of this.#options.channels) {
      const { epoch, offset } = (await client.subscribe(channel)).position;
      this.#channels.set(channel, { epoch, sequence: new Sequence(offset) });
    }
  }

  stopReading(): void {
    this.#stoppedAt = performance.now();
    this.#client?.socket.pause();
  }

  /** Reads again; once it notices that it was closed, reconnects and recovers every channel. @returns the outcome as text. */
  async readAgain(): Promise<string> {
    const from = performance.now();
    const client = this.#client;
    client?.socket.resume();
    const noticed = await Promise.race([client?.closed.then(() => true), pause(noticeCloseWithinMs, false)]);
    if (!noticed) return `its connection was still open after ${((from - this.#stoppedAt) / 1_000).toFixed(0)} s`;
    const returned = await this.#reconnect();
    if (!returned) return "it could not reconnect in time";
    let [replayed, recovered] = [0, 0];
    const answered = [...this.#channels].map(async ([channel, { epoch, sequence }]) =>
      returned.subscribe(channel, { epoch, offset: sequence.reached }, (ack) => {
        for (const { offset, prev } of ack.publications) sequence.take(offset, prev);
        replayed += ack.publications.length;
        if (ack.recovered) {
          recovered++;
          return;
        }
        this.#refused++;
        sequence.resync(ack.position.offset);
      }),
    );
    const all = await Promise.race([Promise.all(answered), returned.closed, pause(returnWithinMs)]);
    if (!all) return `it was closed again, or not answered in time, after ${recovered} channels`;
    const seconds = ((performance.now() - from) / 1_000).toFixed(1);
    return `${recovered} channels recovered, ${this.#refused} refused, ${replayed} publications replayed, ${seconds} s after it read again`;
  }

  /** Channels that lack a publication without a refusal, or got one twice. */
  incomplete(lastOffsets: ReadonlyMap<string, number>): number {
    return [...this.#channels].filter(([channel, { sequence }]) => {
      return sequence.faults > 0 || sequence.reached !== lastOffsets.get(channel);
    }).length;
  }

  close(): void {
    this.#client?.socket.destroy();
  }

  async #reconnect(): Promise<RawClient | undefined> {
    for (const until = performance.now() + returnWithinMs; performance.now() < until; await pause(reconnectEveryMs)) {
      const client = await this.#connect().catch(this.#options.onError);
      if (client) return client;
    }
    return undefined;
  }

  async #connect(): Promise<RawClient> {
    const client = await this.#options.connect();
    client.onEvent = (event, _data, { channel = "", offset, prev }) => {
      if (event === "tick" && offset !== undefined) this.#channels.get(channel)?.sequence.take(offset, prev);
    };
    this.#client = client;
    return client;
  }
}
