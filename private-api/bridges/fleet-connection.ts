/**
 * The connections of one session to the Redis of an old fleet, in the shape in which Socket.IO's adapters use a client of ioredis. Adapters neither
 * await nor catch what they send, and throw at messages that are malformed: that ends here. A connection that breaks ends the session.
 */
import type { Place } from "../../shared/changes/contract.ts";
import { type Argument, connect, type RedisClient, send } from "../../shared/redis/client.ts";
import { script } from "../../shared/redis/scripts.ts";
import type { RedisServers } from "../../shared/redis/servers.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import { AdapterClient } from "./adapter-client.ts";

type EmitReply = "emitted" | "repeat" | "stale" | "early";

const emitScript = script<EmitReply>(new URL("emit.lua", import.meta.url), 1);

const connectWaitMs = 5_000;
/** How soon the session notices a silent connection, if no command times out before. */
const probeMs = 2_000;
/** Longer than the change log keeps anything. */
const keepMarksSeconds = 30 * 86_400;
/** Larger ones are not parsed: no emit that becomes a publication is that large. */
export const maxMessageBytes = 1_048_576;
/** Shorter than the time-out of a command. */
export const blockMs = 1_000;

/** Names an emit to the old fleet: it happens once. */
export interface EmitMark {
  readonly slot: number;
  readonly place: Place;
  /** The emit before in the slot, in the same session. */
  readonly before: Place | undefined;
  readonly fence: number;
}

export interface FleetConnectionOptions {
  servers: RedisServers;
  /** Key of the marks. */
  marksKey: string;
  /** Where the stream is read from; undefined where the fleet has none. @see OldFleetOptions.room */
  stream: { name: string; after: string | undefined; room: () => Promise<void> } | undefined;
  /** Further checks, with each probe. Rejects where the session must end. */
  probe: (connection: FleetConnection) => Promise<void>;
  onMalformed: () => void;
  errors: ContainedErrors;
}

export class FleetConnection {
  readonly #options: FleetConnectionOptions;
  readonly #commands: RedisClient;
  readonly #subscriber: RedisClient;
  readonly #streamReader: RedisClient | undefined;
  readonly #ended = Promise.withResolvers<Error>();
  #streamAfter = "";
  #isClosed = false;
  #probeTimer: NodeJS.Timeout | undefined;
  /** While the adapter sends what {@link emitOnce} asked for. */
  #mark: EmitMark | undefined;
  #emitting: Promise<EmitReply> | undefined;
  readonly adapterClient = new AdapterClient({
    send: (command, values) => this.#send(command, values),
    subscribe: (command, values) => this.#subscribe(command, values),
    readStream: (values) => this.#readStream(values),
    onMessage: (event, listener) => this.#onMessage(event, listener),
  });

  constructor(options: FleetConnectionOptions) {
    const { servers, stream } = options;
    this.#options = options;
    this.#commands = servers.openClient();
    this.#subscriber = servers.openSubscriber(this.#commands, "");
    this.#streamReader = stream && servers.openSubscriber(this.#commands, "");
  }

  /** Resolves once the session has to end. */
  get ended(): Promise<Error> {
    return this.#ended.promise;
  }

  /**
   * @returns the entry after which the stream is read; undefined where the fleet has none.
   * @throws where the fleet's Redis cannot be reached. The caller closes the connection in any case.
   */
  async open(): Promise<string | undefined> {
    const clients = this.#clients;
    await Promise.all(clients.map(async (client) => connect(client, connectWaitMs)));
    if (clients.some((client) => client.status !== "ready")) throw new Error("the fleet's Redis cannot be reached");
    for (const client of clients) client.on("close", () => this.#end(new Error("the connection has ended")));
    const { stream, errors } = this.#options;
    if (stream) this.#streamAfter = stream.after ?? (await this.#newestOf(stream.name));
    this.#probeTimer = errors.every(probeMs, () => this.#probe());
    await this.#options.probe(this);
    return stream && this.#streamAfter;
  }

  /** Resolves once the adapter's subscriptions are in force. */
  async subscribed(): Promise<void> {
    await send(this.#subscriber, "ping", []);
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#probeTimer);
    for (const client of this.#clients) client.disconnect();
  }

  async command<Reply>(name: string, ...values: Argument[]): Promise<Reply> {
    return (await send(this.#commands, name, values)) as Reply;
  }

  /** By slot, the place of the last change that was emitted, by any bridge of this identity. */
  async places(): Promise<Map<number, Place>> {
    const marks = await this.command<Record<string, string>>("hgetall", this.#options.marksKey);
    return new Map(
      Object.entries(marks)
        .filter(([slot]) => slot !== "fence")
        .map(([slot, place]) => [Number(slot), place]),
    );
  }

  /** @param broadcast makes the adapter send one message before it returns. */
  async emitOnce(mark: EmitMark, broadcast: () => void): Promise<EmitReply> {
    this.#mark = mark;
    this.#emitting = undefined;
    try {
      broadcast();
    } finally {
      this.#mark = undefined;
    }
    const emitting: Promise<EmitReply> | undefined = this.#emitting;
    if (!emitting) throw new Error("the adapter has sent nothing");
    return emitting;
  }

  get #clients(): RedisClient[] {
    return [this.#commands, this.#subscriber, ...(this.#streamReader ? [this.#streamReader] : [])];
  }

  #end(error: Error): void {
    if (!this.#isClosed) this.#ended.resolve(error);
  }

  /** Sends what an adapter sends unasked, e.g. an answer to another server, at most once. */
  async #send(command: string, values: readonly Argument[]): Promise<unknown> {
    const mark = this.#mark;
    if (!mark) return send(this.#commands, command, values).catch(() => undefined);
    this.#emitting = this.command<EmitReply>(
      emitScript.name,
      ...[this.#options.marksKey, mark.fence, mark.slot, mark.place, mark.before ?? "", keepMarksSeconds],
      ...[command.toUpperCase(), ...values],
    );
    // The caller of emitOnce gets the failure.
    return this.#emitting.catch(() => undefined);
  }

  #subscribe(command: string, values: readonly Argument[]): void {
    send(this.#subscriber, command, values).catch((error: Error) => this.#end(error));
  }

  /** `["BLOCK", ms, "COUNT", n, "STREAMS", name, after]`. Never rejects: an adapter would retry at once, in an endless loop. */
  async #readStream(values: readonly Argument[]): Promise<unknown> {
    const after = values.at(-1);
    const reader = this.#streamReader;
    await this.#options.stream?.room();
    if (reader && !this.#isClosed) {
      try {
        return await send(reader, "xread", [
          ...values.slice(0, -1),
          after === "$" ? this.#streamAfter : (after ?? "$"),
        ]);
      } catch (error) {
        this.#end(error as Error);
      }
    }
    return new Promise(() => undefined);
  }

  #onMessage(event: string, listener: (...values: Buffer[]) => unknown): void {
    this.#subscriber.on(event, (...values: Buffer[]) => {
      const message = values.at(-1);
      const isTooLarge = message !== undefined && message.length > maxMessageBytes;
      const run = async (): Promise<void> => {
        await listener(...values);
      };
      if (isTooLarge) this.#options.onMalformed();
      else run().catch(() => this.#options.onMalformed());
    });
  }

  async #newestOf(stream: string): Promise<string> {
    const [newest] = await this.command<[id: string, fields: string[]][]>("xrevrange", stream, "+", "-", "COUNT", 1);
    return newest?.[0] ?? "0-0";
  }

  async #probe(): Promise<void> {
    try {
      const probes = [this.#commands, this.#subscriber].map(async (client) => send(client, "ping", []));
      const isAlive = await withDeadline(Promise.all(probes), probeMs * 2, () => undefined);
      if (!isAlive) throw new Error("the fleet's Redis does not answer");
      await this.#options.probe(this);
    } catch (error) {
      this.#end(error as Error);
    }
  }
}
