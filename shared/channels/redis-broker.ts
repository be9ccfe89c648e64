import { readFileSync } from "node:fs";
import { brokerUnavailable } from "../errors.ts";
import type { Logger } from "../logging.ts";
import { connect, createRedisClient, type RedisClient, type RedisTarget } from "../redis/connect.ts";
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
  fenceTopic,
  formatUserMessage,
  idempotencyKey,
  parseChannelMessage,
  parseTopicName,
  parseUserMessage,
  topicName,
} from "./redis-keys.ts";
import { slotOf } from "./slots.ts";

/** Wait for Redis at the start; past it the process starts without, and is not ready. */
const startWaitMs = 5_000;
/** Topics in one SSUBSCRIBE, so that no single command holds the connection long. */
const followBatch = 100;

function script(file: string): string {
  return readFileSync(new URL(file, import.meta.url), "utf8");
}

type Script<Reply> = (keyCount: number, ...keysAndArguments: (string | number)[]) => Promise<Reply>;

interface Scripts {
  tidegatePublish: Script<[outcome: "published" | "duplicate" | "conflict", epoch: string, offset: string]>;
  tidegatePublishEphemeral: Script<0 | 1>;
  tidegateReadHistory: Script<[epoch: string, offset: string, more: 0 | 1, ...entries: string[]]>;
}

/** Channels on Redis 7 or later: standalone, Sentinel or Cluster. One round trip for each operation. */
export class RedisBroker implements ChannelBroker {
  readonly #commands: RedisClient & Scripts;
  /** In a cluster the commands' client keeps one subscriber connection per primary itself. */
  readonly #subscriber: RedisClient;
  readonly #logger: Logger;
  readonly #listeners: BrokerListener[] = [];
  /** Names of the topics that are followed, or about to be. */
  readonly #followed = new Map<string, Topic>();
  #interrupted = true;

  constructor(options: { target: RedisTarget; logger: Logger }) {
    this.#logger = options.logger;
    const commands = createRedisClient(options.target, options.logger);
    commands.defineCommand("tidegatePublish", { lua: script("publish.lua") });
    commands.defineCommand("tidegatePublishEphemeral", { lua: script("publish-ephemeral.lua") });
    commands.defineCommand("tidegateReadHistory", { lua: script("read-history.lua") });
    this.#commands = commands as RedisClient & Scripts;
    this.#subscriber = options.target.kind === "cluster" ? commands : createRedisClient(options.target, options.logger);
  }

  get available(): boolean {
    return this.#commands.status === "ready" && !this.#interrupted;
  }

  async start(): Promise<void> {
    const subscriber = this.#subscriber;
    subscriber.on("smessage", (name: string, message: string) => this.#receive(name, message));
    for (const lost of ["close", "-subscriber"]) subscriber.on(lost, () => this.#interrupt());
    for (const back of ["ready", "subscribersReady"]) {
      subscriber.on(back, () => {
        this.#followAgain().catch((error: unknown) => {
          this.#logger.warn({ err: error }, "could not follow again, waiting for the next connection");
        });
      });
    }
    const clients = new Set([this.#commands, subscriber]);
    await Promise.all([...clients].map((client) => connect(client, startWaitMs)));
  }

  async stop(): Promise<void> {
    this.#followed.clear();
    for (const client of new Set([this.#commands, this.#subscriber])) client.disconnect();
  }

  listen(listener: BrokerListener): void {
    this.#listeners.push(listener);
  }

  async publish(request: PublishRequest): Promise<PublishOutcome> {
    const { channel, event, data, retention, id, expect } = request;
    const { state, history } = channelKeys(channel);
    const keys = id === undefined ? [state, history] : [state, history, idempotencyKey("publication", channel, id)];
    const [outcome, epoch, offset] = await this.#ask(
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
      await this.#ask(this.#commands.spublish(topic, `e ${event}\n${data}`));
      return { duplicate: false };
    }
    const published = await this.#ask(
      this.#commands.tidegatePublishEphemeral(keys.length, ...keys, topic, event, data, idempotencySeconds),
    );
    return { duplicate: published === 0 };
  }

  async sendToUser(user: string, message: UserMessage): Promise<void> {
    await this.#ask(this.#commands.spublish(topicName({ kind: "user", name: user }), formatUserMessage(message)));
  }

  async readHistory(query: HistoryQuery): Promise<HistorySlice> {
    const { state, history } = channelKeys(query.channel);
    const [epoch, offset, more, ...entries] = await this.#ask(
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
    const name = topicName(topic);
    this.#followed.set(name, topic);
    try {
      await this.#ask(this.#subscriber.ssubscribe(name));
    } catch (error) {
      this.#followed.delete(name);
      throw error;
    }
  }

  async unfollow(topic: Topic): Promise<void> {
    const name = topicName(topic);
    this.#followed.delete(name);
    await this.#ask(this.#subscriber.sunsubscribe(name));
  }

  async #ask<Reply>(reply: Promise<Reply>): Promise<Reply> {
    try {
      return await reply;
    } catch (error) {
      throw brokerUnavailable(error);
    }
  }

  #receive(name: string, message: string): void {
    const topic = parseTopicName(name);
    if (topic?.kind === "channel") {
      const parsed = parseChannelMessage(message);
      if (parsed?.kind === "publication") {
        for (const listener of this.#listeners) listener.onPublication(topic.name, parsed.epoch, parsed.publication);
        return;
      }
      if (parsed?.kind === "ephemeral") {
        for (const listener of this.#listeners) listener.onEphemeral(topic.name, parsed.ephemeral);
        return;
      }
    } else if (topic?.kind === "user") {
      const parsed = parseUserMessage(message);
      if (parsed) {
        for (const listener of this.#listeners) listener.onUserMessage(topic.name, parsed);
        return;
      }
    }
    this.#logger.error({ topic: name }, "not a message of ours on this topic");
  }

  #interrupt(): void {
    if (this.#interrupted) return;
    this.#interrupted = true;
    for (const listener of this.#listeners) listener.onInterrupted();
  }

  /** Subscribes to everything again, slot by slot; then followers can compare positions. */
  async #followAgain(): Promise<void> {
    const bySlot = Map.groupBy(this.#followed.entries(), ([, topic]) => slotOf(topic.name));
    await Promise.all(
      [...bySlot].map(async ([slot, topics]) => {
        const names = topics.map(([name]) => name);
        if (this.#subscriber === this.#commands) {
          // The cluster client subscribes again by itself: the fence follows its commands on the same connection.
          await this.#subscriber.ssubscribe(fenceTopic(slot));
          await this.#subscriber.sunsubscribe(fenceTopic(slot));
          return;
        }
        for (let at = 0; at < names.length; at += followBatch) {
          await this.#subscriber.ssubscribe(...names.slice(at, at + followBatch));
        }
      }),
    );
    this.#interrupted = false;
    for (const listener of this.#listeners) listener.onRestored();
  }
}
