import type { IdentityKey } from "../protocol/identity-key.ts";
import type { Cells, SlotAccess } from "../redis/cells.ts";
import type { ReadReplica } from "../redis/read-replica.ts";
import { script } from "../redis/scripts.ts";
import { slotOf } from "../redis/slots.ts";
import { brokerUnavailable, orBrokerUnavailable } from "../redis/unavailable.ts";
import type { Logger } from "../runtime/logging.ts";
import type { StoreState } from "../runtime/store-state.ts";
import type * as contract from "./contract.ts";
import { idempotencySeconds, newEpoch, stateSeconds } from "./contract.ts";
import * as keys from "./keys.ts";

type PublishReply = [outcome: "published" | "duplicate" | "conflict" | "early", epoch: string, offset: string];

type HistoryReply = [
  epoch: string,
  offset: string,
  more: 0 | 1,
  keptForMs: number,
  stateSeconds: number,
  ...entries: string[],
];

const publishScript = script<PublishReply>(new URL("publish.lua", import.meta.url), 2);
const publishOnceScript = script<PublishReply>(new URL("publish.lua", import.meta.url), 3);
const publishLoggedScript = script<PublishReply>(new URL("publish.lua", import.meta.url), 5);
const publishLoggedOnceScript = script<PublishReply>(new URL("publish.lua", import.meta.url), 6);
const publishEphemeralOnceScript = script<0 | 1>(new URL("publish-ephemeral.lua", import.meta.url), 1);
const readHistoryScript = script<HistoryReply | []>(new URL("read-history.lua", import.meta.url), 2);
const beginChannelScript = script(new URL("begin-channel.lua", import.meta.url), 2);

/**
 * Channels on Redis 7 or later: standalone, Sentinel or Cluster. Each operation takes one round trip, except the first read of
 * a channel. Reads write nothing, so that they work while Redis refuses writes.
 */
export class RedisBroker implements contract.ChannelBroker {
  readonly #cells: Cells;
  readonly #logger: Logger;
  readonly #listeners: contract.BrokerListener[] = [];

  constructor(options: { cells: Cells; logger: Logger }) {
    this.#cells = options.cells;
    this.#logger = options.logger;
  }

  get state(): StoreState {
    return this.#cells.state;
  }

  async start(): Promise<void> {
    const { root } = this.#cells.fleet;
    this.#cells.listen({
      onMessage: (topic, message) => this.#receive(keys.parseTopicName(root, topic), message),
      onRestored: () => this.#notify((listener) => listener.onRestored()),
    });
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  listen(listener: contract.BrokerListener): void {
    this.#listeners.push(listener);
  }

  async publish(request: contract.PublishRequest): Promise<contract.PublishOutcome> {
    const { channel, event, data, retention, mark, expect, changes, row, origin } = request;
    const cell = this.#cells.of(channel);
    const { state, history } = keys.channelKeys(cell.root, channel);
    const { keys: logKeys, values: logValues } = changes
      ? loggingArguments(cell.root, channel, { ...changes, row, origin })
      : { keys: [], values: [] };
    const onceKeys = onceKeysOf(cell.root, "publication", request);
    const plain = onceKeys.length === 0 ? publishScript : publishOnceScript;
    const logged = onceKeys.length === 0 ? publishLoggedScript : publishLoggedOnceScript;
    const [outcome, epoch, offset] = await cell.run(
      changes ? logged : plain,
      ...[state, history, ...logKeys, ...onceKeys],
      keys.topicName(cell.root, { kind: "channel", name: channel }),
      ...[event, data, newEpoch(), retention.historySize, retention.historySeconds],
      stateSeconds(true, retention),
      ...[expect?.epoch ?? "", expect?.offset ?? ""],
      mark ? `${mark.name} ${mark.before} ${mark.at}` : idempotencySeconds,
      ...logValues,
    );
    const position = { epoch, offset: Number(offset) };
    if (outcome === "early")
      throw brokerUnavailable(`a publication before this one is not stored: ${mark?.name ?? ""}`);
    if (outcome === "conflict") return { kind: "conflict", position };
    return { kind: "published", position, duplicate: outcome === "duplicate" };
  }

  async publishEphemeral(request: contract.EphemeralRequest): Promise<{ duplicate: boolean }> {
    const { channel, event, data, mark } = request;
    const cell = this.#cells.of(channel);
    const topic = keys.topicName(cell.root, { kind: "channel", name: channel });
    const [onceKey] = onceKeysOf(cell.root, "ephemeral", request);
    if (onceKey === undefined) {
      await cell.run("spublish", topic, `e ${event}\n${data}`);
      return { duplicate: false };
    }
    const values = [topic, event, data, mark ? `${mark.name} ${mark.at}` : idempotencySeconds];
    const published = await cell.run(publishEphemeralOnceScript, onceKey, ...values);
    return { duplicate: published === 0 };
  }

  async sendToUser(user: IdentityKey, message: contract.UserMessage): Promise<void> {
    const cell = this.#cells.of(user);
    const topic = keys.topicName(cell.root, { kind: "user", name: user });
    await cell.run("spublish", topic, keys.formatUserMessage(message));
  }

  async readHistory(query: contract.HistoryQuery): Promise<contract.HistorySlice> {
    const cell = this.#cells.of(query.channel);
    if (cell.replica?.usable && query.limit > 0 && query.reaching) {
      const slice = await this.#readReplica(cell.replica, cell.root, query);
      if (slice) return slice;
    }
    const read = async () => cell.run(readHistoryScript, ...historyArguments(cell.root, query));
    let reply = await read();
    if (isUnknown(reply)) {
      const { state, history } = keys.channelKeys(cell.root, query.channel);
      await cell.run(beginChannelScript, state, history, newEpoch(), stateSeconds(false, query.retention));
      reply = await read();
    }
    if (isUnknown(reply)) throw brokerUnavailable("the message store lost a write");
    this.#keepState(cell, query, reply);
    return toSlice(reply, query.newest);
  }

  /** Keeps the state of a channel that is in use. Writes only once half of its time is over, so that most reads write nothing. */
  #keepState(cell: SlotAccess, { channel, retention }: contract.HistoryQuery, reply: HistoryReply): void {
    const [, offset, , , leftSeconds] = reply;
    const seconds = stateSeconds(offset !== "0", retention);
    if (leftSeconds > seconds / 2) return;
    cell.run("expire", keys.channelKeys(cell.root, channel).state, seconds, "GT").catch((error: unknown) => {
      this.#logger.debug({ err: error, channel }, "renewing the state of a channel failed");
    });
  }

  /** @returns undefined where the primary must answer: the replica is behind, in another epoch, away, or lacks publications. */
  async #readReplica(
    replica: ReadReplica,
    root: string,
    query: contract.HistoryQuery,
  ): Promise<contract.HistorySlice | undefined> {
    const { epoch, after, reaching } = query;
    let reply: HistoryReply | [];
    try {
      reply = await replica.run(readHistoryScript, ...historyArguments(root, query));
    } catch (error) {
      this.#logger.debug({ err: error }, "reading from the replica failed");
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

  async follow(topic: contract.Topic): Promise<void> {
    const name = keys.topicName(this.#cells.fleet.root, topic);
    await orBrokerUnavailable(this.#cells.subscribe(slotOf(topic.name), name));
  }

  async unfollow(topic: contract.Topic): Promise<void> {
    const name = keys.topicName(this.#cells.fleet.root, topic);
    await orBrokerUnavailable(this.#cells.unsubscribe(slotOf(topic.name), name));
  }

  #notify(call: (listener: contract.BrokerListener) => void): void {
    for (const listener of this.#listeners) call(listener);
  }

  #receive(topic: contract.Topic | undefined, message: string): void {
    if (topic === undefined) return;
    if (topic.kind === "user") {
      const parsed = keys.parseUserMessage(message);
      if (parsed) this.#notify((listener) => listener.onUserMessage(topic.name, parsed));
      else this.#logger.error({ topic }, "malformed message to a user");
      return;
    }
    const parsed = keys.parseChannelMessage(message);
    if (parsed?.kind === "publication") {
      this.#notify((listener) => listener.onPublication(topic.name, parsed.epoch, parsed.publication));
    } else if (parsed?.kind === "ephemeral") {
      this.#notify((listener) => listener.onEphemeral(topic.name, parsed.ephemeral));
    } else this.#logger.error({ topic }, "malformed publication");
  }
}

/** What tells whether a publication is a repeat. */
function onceKeysOf(
  root: string,
  kind: "publication" | "ephemeral",
  { channel, id, mark }: contract.EphemeralRequest,
): string[] {
  if (mark) return [keys.marksKey(root, channel)];
  return id === undefined ? [] : [keys.idempotencyKey(root, kind, channel, id)];
}

function loggingArguments(
  root: string,
  channel: string,
  {
    maxBytes,
    maxSeconds,
    unclaimedSeconds,
    maxRowBytes = 0,
    row,
    origin = "",
  }: contract.ChangeRetention & {
    row: contract.RowName | undefined;
    origin: string | undefined;
  },
): { keys: string[]; values: (string | number)[] } {
  const { log, state, live, news } = keys.changeKeys(root, slotOf(channel));
  const times = [maxSeconds * 1000, unclaimedSeconds * 1000];
  const ofRows = [row ? `${row.shard} ${row.id}` : "", Math.floor(maxRowBytes)];
  return { keys: [log, state, live], values: [Math.floor(maxBytes), ...times, news, channel, ...ofRows, origin] };
}

function historyArguments(root: string, query: contract.HistoryQuery): (string | number)[] {
  const { channel, after, limit, maxBytes, epoch, newest } = query;
  const { state, history } = keys.channelKeys(root, channel);
  return [state, history, after ?? "", limit, maxBytes, epoch ?? "", newest ? 1 : 0];
}

function isUnknown(reply: HistoryReply | []): reply is [] {
  return reply.length === 0;
}

function toSlice([epoch, offset, more, keptForMs, , ...entries]: HistoryReply, newest = false): contract.HistorySlice {
  const publications: contract.Publication[] = [];
  for (let at = 0; at < entries.length; at += 4) {
    const [id = "", prev = "", event = "", data = ""] = entries.slice(at, at + 4);
    publications.push({ offset: Number.parseInt(id, 10), prev: Number(prev), event, data });
  }
  if (newest) publications.reverse();
  const position = { epoch, offset: Number(offset) };
  return { position, publications, more: more === 1, ...(publications.length > 0 && { keptForMs }) };
}
