/**
 * One more server of an old Socket.IO fleet, without clients: it receives what the others emit to carried rooms, emits to their rooms, and answers
 * their requests as a server without sockets does. The adapters are loaded when the first bridge joins.
 */
import { parseServerUrl } from "../../shared/redis/address.ts";
import { type BridgeRule, bridgeDefaults, redisVariable } from "../../shared/rules/bridges.ts";
import type { RoomMap } from "../../shared/rules/bridge-rooms.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { RedisServers } from "../../shared/redis/servers.ts";
import { blockMs, type EmitMark, FleetConnection, maxMessageBytes } from "./fleet-connection.ts";
import { fleetIdOf } from "./progress.ts";
import { bridgeFlag, type ReceivedEmit } from "./received-emit.ts";

/** Of Socket.IO's protocol. */
const eventPacket = 2;
/** Each server with the sharded adapter has a topic of its own, where the others have one for each room. */
const serverId = /^[0-9a-f]{16}$/;
/** Of a stream. They are in memory together, however large they are. */
const entriesPerRead = 32;

/** Of the members of an adapter that the bridge uses. */
interface Adapter {
  rooms: Map<string, Set<string>>;
  broadcast(packet: object, options: object): unknown;
  close(): unknown;
  /** Encodes a packet for the sockets of this server. */
  _encode(packet: unknown): unknown[];
  /** Passes each socket of this server that the options choose to the callback. */
  apply(options: unknown): void;
}

/** The members that the streams adapter has beside those. */
interface StreamsAdapter extends Adapter {
  /** decode: throws where the entry is malformed. */
  constructor: { decode(entry: StreamEntry): unknown };
  /** Called with each entry. The adapter's own drops what cannot be decoded. */
  onRawMessage(entry: StreamEntry, offset: string): void;
  /** @throws where the message is malformed. */
  onMessage(message: unknown, offset: string): void;
}

interface StreamEntry {
  readonly data?: string;
}

/** Something must be changed in the rules, or at the old fleet, before the bridge can join. */
export class FleetRefused extends Error {
  override readonly name = "FleetRefused";
}

/** @param url of the fleet's Redis; undefined where the variable is not set. @throws FleetRefused */
export function locateFleet(rule: BridgeRule, url: string | undefined): { url: string; fleetId: string } {
  const variable = redisVariable(rule);
  if (url === undefined || url === "") {
    throw new FleetRefused(`the environment variable ${variable} of the private API is not set`);
  }
  try {
    return { url, fleetId: fleetIdOf(rule, parseServerUrl(url)) };
  } catch (error) {
    throw new FleetRefused(`${variable}: ${(error as Error).message}`);
  }
}

export interface OldFleetOptions {
  rule: BridgeRule;
  rooms: RoomMap;
  servers: RedisServers;
  /** Of the bridge, the same in every process. */
  identity: string;
  /** Of the stream's entry after which to read; undefined: from now on. */
  after: string | undefined;
  /** @param offset of the stream's entry; undefined for other adapters. */
  onEmit: (emit: ReceivedEmit, offset: string | undefined) => void;
  /** Resolves once more entries of a stream can be taken. */
  room: () => Promise<void>;
  /** A message that is no valid one, or too large. */
  onMalformed: (offset: string | undefined) => void;
  errors: ContainedErrors;
}

export class OldFleet {
  readonly #options: OldFleetOptions;
  readonly #connection: FleetConnection;
  #adapter: Adapter | undefined;
  #offset: string | undefined;
  /** Encoded last, and not passed on yet. */
  #packet: unknown;

  constructor(options: OldFleetOptions) {
    const { rule, servers, identity, after, room, onMalformed, errors } = options;
    const key = rule.key ?? bridgeDefaults.key;
    this.#options = options;
    this.#connection = new FleetConnection({
      ...{ servers, errors },
      onMalformed: () => onMalformed(undefined),
      marksKey: `${key}-tidegate:${identity}`,
      stream: rule.adapter === "streams" ? { name: key, after, room } : undefined,
      probe: (connection) => this.#checkMode(connection),
    });
  }

  get ended(): Promise<Error> {
    return this.#connection.ended;
  }

  /** @see FleetConnection.open. @throws FleetRefused, too */
  async connect(): Promise<string | undefined> {
    return this.#connection.open();
  }

  /** Once it is connected. Emits are received from now on. */
  async join(): Promise<void> {
    const { rule, rooms, errors } = this.#options;
    const adapter = await this.#createAdapter();
    this.#adapter = adapter;
    // The classic adapter decodes only what concerns a room of this server.
    adapter.rooms = new CarriedRooms(rooms);
    adapter._encode = (packet) => {
      this.#packet = packet;
      return [];
    };
    // The adapter expects no exception here, also where it runs beside everything else.
    adapter.apply = errors.guarded("store", (options) => this.#receive(options));
    if (rule.adapter === "streams") {
      const streams = adapter as StreamsAdapter;
      streams.onRawMessage = (entry, offset) => this.#receiveEntry(streams, entry, offset);
    }
    await this.#connection.subscribed();
  }

  /** Emits that are asked for one after the other arrive in that order. */
  async emit(mark: EmitMark, { room, event, data }: { room: string; event: string; data: unknown }): Promise<string> {
    const packet = { type: eventPacket, data: [event, data] };
    const flags = { [bridgeFlag]: this.#options.identity };
    return this.#connection.emitOnce(mark, () => {
      this.#adapter?.broadcast(packet, { rooms: new Set([room]), except: new Set(), flags });
    });
  }

  /** @see FleetConnection.places */
  async places(): ReturnType<FleetConnection["places"]> {
    return this.#connection.places();
  }

  leave(): void {
    this.#adapter?.close();
    this.#connection.close();
  }

  /** For each message that the adapter hands to its sockets, and for each request that looks for some: there are none. */
  #receive(options: unknown): void {
    const packet = this.#packet;
    this.#packet = undefined;
    if (packet !== undefined) this.#options.onEmit({ packet, options }, this.#offset);
  }

  /** Never throws: the adapter would read the same entry again at once, in an endless loop. */
  #receiveEntry(adapter: StreamsAdapter, entry: StreamEntry, offset: string): void {
    if (entry.data !== undefined && entry.data.length > maxMessageBytes) {
      this.#options.onMalformed(offset);
      return;
    }
    this.#offset = offset;
    try {
      adapter.onMessage(adapter.constructor.decode(entry), offset);
    } catch {
      this.#options.onMalformed(offset);
    } finally {
      // What comes beside the stream, such as an emit with an acknowledgement, has no offset.
      this.#offset = undefined;
    }
  }

  async #createAdapter(): Promise<Adapter> {
    const { key, namespace, maxLen, adapter } = { ...bridgeDefaults, ...this.#options.rule };
    const server = namespaceWithoutClients(namespace);
    const client = this.#connection.adapterClient;
    switch (adapter) {
      case "classic": {
        const { createAdapter } = await import("@socket.io/redis-adapter");
        return createAdapter(client, client, { key })(server) as unknown as Adapter;
      }
      case "sharded": {
        const { createShardedAdapter } = await import("@socket.io/redis-adapter");
        const options = { channelPrefix: key, subscriptionMode: "static" } as const;
        return createShardedAdapter(client, client, options)(server) as unknown as Adapter;
      }
      case "streams": {
        const { createAdapter } = await import("@socket.io/redis-streams-adapter");
        const options = { streamName: key, channelPrefix: key, maxLen };
        const reads = { blockTimeInMs: blockMs, readCount: entriesPerRead };
        return createAdapter(client, { ...options, ...reads })(server) as unknown as Adapter;
      }
    }
  }

  /**
   * Servers with the sharded adapter in another subscription mode publish to a topic of each room, which a bridge cannot know beforehand; those with the
   * streams adapter may use several streams. @throws FleetRefused
   */
  async #checkMode(connection: FleetConnection): Promise<void> {
    const { key = bridgeDefaults.key, namespace = bridgeDefaults.namespace, adapter } = this.#options.rule;
    if (adapter === "streams" && (await connection.command<number>("exists", `${key}-0`)) === 1) {
      throw new FleetRefused("the old servers use several streams: give them streamCount: 1");
    }
    if (adapter !== "sharded") return;
    const base = `${key}#${namespace}#`;
    const topics = await connection.command<string[]>("pubsub", "SHARDCHANNELS", `${base}*`);
    const room = topics
      .map((topic) => topic.slice(base.length, -1))
      .find((name) => name !== "" && !serverId.test(name) && this.#options.rooms.channelOf(name) !== undefined);
    if (room === undefined) return;
    throw new FleetRefused('the old servers use a topic for each room: give them subscriptionMode: "static"');
  }
}

/** What an adapter needs to know of a Socket.IO server. */
function namespaceWithoutClients(name: string): object {
  return {
    name,
    sockets: new Map(),
    _ids: 0,
    server: { encoder: { encode: () => [] }, opts: {} },
    // A serverSideEmit that waits for an answer of every server gets null from the bridge, and not a time-out.
    _onServerSideEmit: (values: readonly unknown[]) => {
      const answer = values.at(-1);
      if (typeof answer === "function") answer(null);
    },
  };
}

/** Says that there is every room that the bridge carries. Nobody is in one. */
class CarriedRooms extends Map<string, Set<string>> {
  readonly #rooms: RoomMap;

  constructor(rooms: RoomMap) {
    super();
    this.#rooms = rooms;
  }

  override has(room: unknown): boolean {
    return typeof room === "string" && this.#rooms.channelOf(room) !== undefined;
  }
}
