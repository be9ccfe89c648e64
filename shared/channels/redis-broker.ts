import { orBrokerUnavailable } from "../errors.ts";
import type { Logger } from "../logging.ts";
import type { RedisClient } from "../redis/connect.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { type Script, scriptSource } from "../redis/scripts.ts";
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
} from "./broker.ts";
import {
  channelKeys,
  formatUserMessage,
  idempotencyKey,
  parseChannelMessage,
  parseTopicName,
  parseUserMessage,
  topicName,
} from "./redis-keys.ts";

interface Scripts {
  tidegatePublish: Script<[outcome: "published" | "duplicate" | "conflict", epoch: string, offset: string]>;
  tidegatePublishEphemeral: Script<0 | 1>;
  tidegateReadHistory: Script<[epoch: string, offset: string, more: 0 | 1, ...entries: string[]]>;
}

/** Channels on Redis 7 or later: standalone, Sentinel or Cluster. One round trip for each operation. */
export class RedisBroker implements ChannelBroker {
  readonly #connections: RedisConnections;
  readonly #commands: RedisClient & Scripts;
  readonly #logger: Logger;
  readonly #listeners: BrokerListener[] = [];

  /** The caller starts and stops the connections. */
  constructor(options: { connections: RedisConnections; logger: Logger }) {
    this.#connections = options.connections;
    this.#logger = options.logger;
    const { commands } = options.connections;
    const source = (file: string): { lua: string } => ({ lua: scriptSource(new URL(file, import.meta.url)) });
    commands.defineCommand("tidegatePublish", source("publish.lua"));
    commands.defineCommand("tidegatePublishEphemeral", source("publish-ephemeral.lua"));
    commands.defineCommand("tidegateReadHistory", source("read-history.lua"));
    this.#commands = commands as RedisClient & Scripts;
  }

  get available(): boolean {
    return this.#connections.available;
  }

  async start(): Promise<void> {
    this.#connections.listen({
      onMessage: (topic, message) => this.#receive(topic, message),
      onInterrupted: () => this.#tell((listener) => listener.onInterrupted()),
      onRestored: () => this.#tell((listener) => listener.onRestored()),
    });
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  listen(listener: BrokerListener): void {
    this.#listeners.push(listener);
  }

  async publish(request: PublishRequest): Promise<PublishOutcome> {
    const { channel, event, data, retention, id, expect } = request;
    const { state, history } = channelKeys(channel);
    const keys = id === undefined ? [state, history] : [state, history, idempotencyKey("publication", channel, id)];
    const [outcome, epoch, offset] = await orBrokerUnavailable(
      this.#commands.tidegatePublish(
        keys.length,
        ...keys,
        topicName({ kind: "channel", name: channel }),
        event,
        data,
        newEpoch(),
        retention.historySize,
        retention.historySeconds,
        retention.historySeconds + stateSecondsBeyondHistory,
        expect?.epoch ?? "",
        expect?.offset ?? "",
        idempotencySeconds,
      ),
    );
    const position = { epoch, offset: Number(offset) };
    if (outcome === "conflict") return { kind: "conflict", position };
    return { kind: "published", position, duplicate: outcome === "duplicate" };
  }

  async publishEphemeral(request: EphemeralRequest): Promise<{ duplicate: boolean }> {
    const { channel, event, data, id } = request;
    const keys = id === undefined ? [] : [idempotencyKey("ephemeral", channel, id)];
    const topic = topicName({ kind: "channel", name: channel });
    // Without a key the script could run on any primary of a cluster: SPUBLISH goes to the right one by itself.
    if (keys.length === 0) {
      await orBrokerUnavailable(this.#commands.spublish(topic, `e ${event}\n${data}`));
      return { duplicate: false };
    }
    const published = await orBrokerUnavailable(
      this.#commands.tidegatePublishEphemeral(keys.length, ...keys, topic, event, data, idempotencySeconds),
    );
    return { duplicate: published === 0 };
  }

  async sendToUser(user: string, message: UserMessage): Promise<void> {
    await orBrokerUnavailable(
      this.#commands.spublish(topicName({ kind: "user", name: user }), formatUserMessage(message)),
    );
  }

  async readHistory(query: HistoryQuery): Promise<HistorySlice> {
    const { state, history } = channelKeys(query.channel);
    const [epoch, offset, more, ...entries] = await orBrokerUnavailable(
      this.#commands.tidegateReadHistory(
        2,
        state,
        history,
        newEpoch(),
        query.after ?? "",
        query.limit,
        query.maxBytes,
        query.epoch ?? "",
        query.retention.historySeconds + stateSecondsBeyondHistory,
      ),
    );
    const publications: Publication[] = [];
    for (let at = 0; at < entries.length; at += 4) {
      const [id = "", prev = "", event = "", data = ""] = entries.slice(at, at + 4);
      publications.push({ offset: Number.parseInt(id, 10), prev: Number(prev), event, data });
    }
    return { position: { epoch, offset: Number(offset) }, publications, more: more === 1 };
  }

  async follow(topic: Topic): Promise<void> {
    await orBrokerUnavailable(this.#connections.subscribe(topicName(topic)));
  }

  async unfollow(topic: Topic): Promise<void> {
    await orBrokerUnavailable(this.#connections.unsubscribe(topicName(topic)));
  }

  #tell(say: (listener: BrokerListener) => void): void {
    for (const listener of this.#listeners) say(listener);
  }

  #receive(name: string, message: string): void {
    const topic = parseTopicName(name);
    if (topic === undefined) return;
    if (topic.kind === "user") {
      const parsed = parseUserMessage(message);
      if (parsed) this.#tell((listener) => listener.onUserMessage(topic.name, parsed));
      else this.#logger.error({ topic: name }, "not a message to a user");
      return;
    }
    const parsed = parseChannelMessage(message);
    if (parsed?.kind === "publication") {
      this.#tell((listener) => listener.onPublication(topic.name, parsed.epoch, parsed.publication));
    } else if (parsed?.kind === "ephemeral") {
      this.#tell((listener) => listener.onEphemeral(topic.name, parsed.ephemeral));
    } else this.#logger.error({ topic: name }, "not a publication");
  }
}
