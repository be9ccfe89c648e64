import type { IdentityKey } from "../protocol/identity-key.ts";
import { brokerUnavailable, orBrokerUnavailable } from "../redis/unavailable.ts";
import type { Logger } from "../runtime/logging.ts";
import type { RedisClient } from "../redis/connect.ts";
import type { RedisConnections } from "../redis/connections.ts";
import type { ReadReplica } from "../redis/read-replica.ts";
import { defineScript } from "../redis/scripts.ts";
import { type StoreState, worstState } from "../runtime/store-state.ts";
import {
  type BrokerListener,
  type ChannelBroker,
  type EphemeralRequest,
  type HistoryQuery,
  type HistorySlice,
  idempotencySeconds,
  newEpoch,
  type Publication,
  type PublishOutcome,
  type PublishRequest,
  stateSecondsBeyondHistory,
  type Topic,
  type UserMessage,
} from "./contract.ts";
import {
  channelKeys,
  formatUserMessage,
  idempotencyKey,
  parseChannelMessage,
  parseTopicName,
  parseUserMessage,
  topicName,
} from "./keys.ts";
import { cellOf, slotOf } from "../redis/slots.ts";

type PublishReply = [outcome: "published" | "duplicate" | "conflict", epoch: string, offset: string];

type HistoryReply = [
  epoch: string,
  offset: string,
  more: 0 | 1,
  keptForMs: number,
  stateSeconds: number,
  ...entries: string[],
];

/** A channel that is asked for and never published to must not fill the store. */
const emptyStateSeconds = 3_600;

function defineScripts(client: RedisClient): void {
  const define = (name: string, file: string, numberOfKeys: number): void => {
    defineScript(client, name, new URL(file, import.meta.url), numberOfKeys);
  };
  define("tidegatePublish", "publish.lua", 2);
  define("tidegatePublishOnce", "publish.lua", 3);
  define("tidegatePublishEphemeralOnce", "publish-ephemeral.lua", 1);
  define("tidegateReadHistory", "read-history.lua", 2);
  define("tidegateBeginChannel", "begin-channel.lua", 2);
}

/**
 * Channels on Redis 7 or later: standalone, Sentinel or Cluster. One round trip for each operation, but for the first look at a
 * channel. Reads write nothing, so that they work where writes are refused.
 */
export class RedisBroker implements ChannelBroker {
  readonly #cells: readonly RedisConnections[];
  readonly #logger: Logger;
  readonly #listeners: BrokerListener[] = [];

  /** @param options.cells by their number; the caller starts and stops them. */
  constructor(options: { cells: readonly RedisConnections[]; logger: Logger }) {
    this.#logger = options.logger;
    this.#cells = options.cells;
    for (const { commands, replica } of options.cells) {
      defineScripts(commands);
      if (replica) defineScripts(replica.client);
    }
  }

  /** The worst of the cells. */
  get state(): StoreState {
    return worstState(this.#cells.map(({ state }) => state));
  }

  async start(): Promise<void> {
    for (const connections of this.#cells) {
      connections.listen({
        onMessage: (topic, message) => this.#receive(parseTopicName(connections.root, topic), message),
        onInterrupted: () => this.#tell((listener) => listener.onInterrupted()),
        onRestored: () => this.#tell((listener) => listener.onRestored()),
      });
    }
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  listen(listener: BrokerListener): void {
    this.#listeners.push(listener);
  }

  async publish(request: PublishRequest): Promise<PublishOutcome> {
    const { channel, event, data, retention, id, expect } = request;
    const cell = this.#cell(channel);
    const { state, history } = channelKeys(cell.root, channel);
    const values = [
      topicName(cell.root, { kind: "channel", name: channel }),
      event,
      data,
      newEpoch(),
      retention.historySize,
      retention.historySeconds,
      retention.historySeconds + stateSecondsBeyondHistory,
      expect?.epoch ?? "",
      expect?.offset ?? "",
      idempotencySeconds,
    ];
    const [outcome, epoch, offset] = await (id === undefined
      ? cell.run<PublishReply>("tidegatePublish", state, history, ...values)
      : cell.run<PublishReply>(
          "tidegatePublishOnce",
          ...[state, history, idempotencyKey(cell.root, "publication", channel, id)],
          ...values,
        ));
    const position = { epoch, offset: Number(offset) };
    if (outcome === "conflict") return { kind: "conflict", position };
    return { kind: "published", position, duplicate: outcome === "duplicate" };
  }

  async publishEphemeral(request: EphemeralRequest): Promise<{ duplicate: boolean }> {
    const { channel, event, data, id } = request;
    const cell = this.#cell(channel);
    const topic = topicName(cell.root, { kind: "channel", name: channel });
    if (id === undefined) {
      await cell.run("spublish", topic, `e ${event}\n${data}`);
      return { duplicate: false };
    }
    const key = idempotencyKey(cell.root, "ephemeral", channel, id);
    const values = [topic, event, data, idempotencySeconds];
    const published = await cell.run<0 | 1>("tidegatePublishEphemeralOnce", key, ...values);
    return { duplicate: published === 0 };
  }

  async sendToUser(user: IdentityKey, message: UserMessage): Promise<void> {
    const cell = this.#cell(user);
    const topic = topicName(cell.root, { kind: "user", name: user });
    await cell.run("spublish", topic, formatUserMessage(message));
  }

  async readHistory(query: HistoryQuery): Promise<HistorySlice> {
    const cell = this.#cell(query.channel);
    if (cell.replica?.usable && query.limit > 0 && query.reaching) {
      const slice = await this.#readReplica(cell.replica, cell.root, query);
      if (slice) return slice;
    }
    const read = async () => cell.run<HistoryReply | []>("tidegateReadHistory", ...historyArguments(cell.root, query));
    let reply = await read();
    if (isUnknown(reply)) {
      const { state, history } = channelKeys(cell.root, query.channel);
      await cell.run("tidegateBeginChannel", state, history, newEpoch(), emptyStateSeconds);
      reply = await read();
    }
    if (isUnknown(reply)) throw brokerUnavailable("the message store loses what it is told");
    this.#keepState(cell, query, reply);
    return toSlice(reply, query.newest);
  }

  /** The state of a channel that is looked at stays. Renewed when half of its time is over: most reads write nothing. */
  #keepState(cell: RedisConnections, { channel, retention }: HistoryQuery, reply: HistoryReply): void {
    const [, offset, , , leftSeconds] = reply;
    const seconds = offset === "0" ? emptyStateSeconds : retention.historySeconds + stateSecondsBeyondHistory;
    if (leftSeconds > seconds / 2) return;
    cell.run("expire", channelKeys(cell.root, channel).state, seconds, "GT").catch((error: unknown) => {
      this.#logger.debug({ err: error, channel }, "the state of a channel could not be kept for longer");
    });
  }

  /** Undefined where the primary has to be asked: the replica is behind, elsewhere, away, or lacks what is wanted. */
  async #readReplica(replica: ReadReplica, root: string, query: HistoryQuery): Promise<HistorySlice | undefined> {
    const { epoch, after, reaching } = query;
    let reply: HistoryReply | [];
    try {
      reply = await replica.run<HistoryReply | []>("tidegateReadHistory", ...historyArguments(root, query));
    } catch (error) {
      this.#logger.debug({ err: error }, "the replica could not be read");
      return undefined;
    }
    if (isUnknown(reply)) return undefined;
    const slice = toSlice(reply, query.newest);
    const { position, publications } = slice;
    const reaches = position.epoch === reaching?.epoch && position.offset >= reaching.offset;
    const bridges = after === undefined || (publications[0]?.prev ?? position.offset) <= after;
    const isAhead = (epoch !== undefined && epoch !== position.epoch) || (after ?? 0) > position.offset;
    return reaches && bridges && !isAhead ? slice : undefined;
  }

  async follow(topic: Topic): Promise<void> {
    const cell = this.#cell(topic.name);
    await orBrokerUnavailable(cell.subscribe(topicName(cell.root, topic)));
  }

  async unfollow(topic: Topic): Promise<void> {
    const cell = this.#cell(topic.name);
    await orBrokerUnavailable(cell.unsubscribe(topicName(cell.root, topic)));
  }

  /** Which Redis owns a channel or a user. */
  #cell(name: string): RedisConnections {
    const cell = this.#cells[cellOf(slotOf(name))];
    if (!cell) throw new Error(`no cell owns slot ${slotOf(name)}`);
    return cell;
  }

  #tell(say: (listener: BrokerListener) => void): void {
    for (const listener of this.#listeners) say(listener);
  }

  #receive(topic: Topic | undefined, message: string): void {
    if (topic === undefined) return;
    if (topic.kind === "user") {
      const parsed = parseUserMessage(message);
      if (parsed) this.#tell((listener) => listener.onUserMessage(topic.name, parsed));
      else this.#logger.error({ topic }, "not a message to a user");
      return;
    }
    const parsed = parseChannelMessage(message);
    if (parsed?.kind === "publication") {
      this.#tell((listener) => listener.onPublication(topic.name, parsed.epoch, parsed.publication));
    } else if (parsed?.kind === "ephemeral") {
      this.#tell((listener) => listener.onEphemeral(topic.name, parsed.ephemeral));
    } else this.#logger.error({ topic }, "not a publication");
  }
}

function historyArguments(root: string, query: HistoryQuery): (string | number)[] {
  const { channel, after, limit, maxBytes, epoch, newest } = query;
  const { state, history } = channelKeys(root, channel);
  return [state, history, after ?? "", limit, maxBytes, epoch ?? "", newest ? 1 : 0];
}

function isUnknown(reply: HistoryReply | []): reply is [] {
  return reply.length === 0;
}

function toSlice([epoch, offset, more, keptForMs, , ...entries]: HistoryReply, newest = false): HistorySlice {
  const publications: Publication[] = [];
  for (let at = 0; at < entries.length; at += 4) {
    const [id = "", prev = "", event = "", data = ""] = entries.slice(at, at + 4);
    publications.push({ offset: Number.parseInt(id, 10), prev: Number(prev), event, data });
  }
  if (newest) publications.reverse();
  const position = { epoch, offset: Number(offset) };
  return { position, publications, more: more === 1, ...(publications.length > 0 && { keptForMs }) };
}
