import { orBrokerUnavailable } from "../errors.ts";
import type { Logger } from "../logging.ts";
import type { RedisClient } from "../redis/connect.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { defineScript, type Script } from "../redis/scripts.ts";
import type { StoreState } from "../store-state.ts";
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
import { cellOf, slotOf } from "./slots.ts";

type PublishReply = [outcome: "published" | "duplicate" | "conflict", epoch: string, offset: string];

interface Scripts {
  tidegatePublish: Script<PublishReply>;
  tidegatePublishOnce: Script<PublishReply>;
  tidegatePublishEphemeralOnce: Script<0 | 1>;
  tidegateReadHistory: Script<[epoch: string, offset: string, more: 0 | 1, keptForMs: number, ...entries: string[]]>;
}

interface Cell {
  connections: RedisConnections;
  commands: RedisClient & Scripts;
}

function withScripts(client: RedisClient): RedisClient & Scripts {
  const define = (name: keyof Scripts, file: string, numberOfKeys: number): void => {
    defineScript(client, name, new URL(file, import.meta.url), numberOfKeys);
  };
  define("tidegatePublish", "publish.lua", 2);
  define("tidegatePublishOnce", "publish.lua", 3);
  define("tidegatePublishEphemeralOnce", "publish-ephemeral.lua", 1);
  define("tidegateReadHistory", "read-history.lua", 2);
  return client as RedisClient & Scripts;
}

/** Channels on Redis 7 or later: standalone, Sentinel or Cluster. One round trip for each operation. */
export class RedisBroker implements ChannelBroker {
  readonly #cells: readonly Cell[];
  readonly #logger: Logger;
  readonly #listeners: BrokerListener[] = [];

  /** @param options.cells by their number; the caller starts and stops them. */
  constructor(options: { cells: readonly RedisConnections[]; logger: Logger }) {
    this.#logger = options.logger;
    this.#cells = options.cells.map((connections) => ({ connections, commands: withScripts(connections.commands) }));
  }

  /** The worst of the cells. */
  get state(): StoreState {
    const states = new Set(this.#cells.map(({ connections }) => connections.state));
    return (["deaf", "away"] as const).find((state) => states.has(state)) ?? "ok";
  }

  async start(): Promise<void> {
    for (const { connections } of this.#cells) {
      connections.listen({
        onMessage: (topic, message) => this.#receive(topic, message),
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
    const { state, history } = channelKeys(channel);
    const { commands } = this.#cell(channel);
    const values = [
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
    ];
    const [outcome, epoch, offset] = await orBrokerUnavailable(
      id === undefined
        ? commands.tidegatePublish(state, history, ...values)
        : commands.tidegatePublishOnce(state, history, idempotencyKey("publication", channel, id), ...values),
    );
    const position = { epoch, offset: Number(offset) };
    if (outcome === "conflict") return { kind: "conflict", position };
    return { kind: "published", position, duplicate: outcome === "duplicate" };
  }

  async publishEphemeral(request: EphemeralRequest): Promise<{ duplicate: boolean }> {
    const { channel, event, data, id } = request;
    const { commands } = this.#cell(channel);
    const topic = topicName({ kind: "channel", name: channel });
    if (id === undefined) {
      await orBrokerUnavailable(commands.spublish(topic, `e ${event}\n${data}`));
      return { duplicate: false };
    }
    const key = idempotencyKey("ephemeral", channel, id);
    const published = await orBrokerUnavailable(
      commands.tidegatePublishEphemeralOnce(key, topic, event, data, idempotencySeconds),
    );
    return { duplicate: published === 0 };
  }

  async sendToUser(user: string, message: UserMessage): Promise<void> {
    const topic = topicName({ kind: "user", name: user });
    await orBrokerUnavailable(this.#cell(user).commands.spublish(topic, formatUserMessage(message)));
  }

  async readHistory(query: HistoryQuery): Promise<HistorySlice> {
    const { state, history } = channelKeys(query.channel);
    const [epoch, offset, more, keptForMs, ...entries] = await orBrokerUnavailable(
      this.#cell(query.channel).commands.tidegateReadHistory(
        state,
        history,
        newEpoch(),
        query.after ?? "",
        query.limit,
        query.maxBytes,
        query.epoch ?? "",
        query.retention.historySeconds + stateSecondsBeyondHistory,
        query.newest ? 1 : 0,
      ),
    );
    const publications: Publication[] = [];
    for (let at = 0; at < entries.length; at += 4) {
      const [id = "", prev = "", event = "", data = ""] = entries.slice(at, at + 4);
      publications.push({ offset: Number.parseInt(id, 10), prev: Number(prev), event, data });
    }
    if (query.newest) publications.reverse();
    const position = { epoch, offset: Number(offset) };
    return { position, publications, more: more === 1, ...(publications.length > 0 && { keptForMs }) };
  }

  async follow(topic: Topic): Promise<void> {
    await orBrokerUnavailable(this.#cell(topic.name).connections.subscribe(topicName(topic)));
  }

  async unfollow(topic: Topic): Promise<void> {
    await orBrokerUnavailable(this.#cell(topic.name).connections.unsubscribe(topicName(topic)));
  }

  /** Which Redis owns a channel or a user. */
  #cell(name: string): Cell {
    const cell = this.#cells[cellOf(slotOf(name))];
    if (!cell) throw new Error(`no cell owns slot ${slotOf(name)}`);
    return cell;
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
