import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type * as contract from "./contract.ts";
import { idempotencySeconds, newEpoch, stateSeconds } from "./contract.ts";
import type { IdentityKey } from "../protocol/identity-key.ts";
import { slotOf } from "../redis/slots.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";

interface StoredChannel {
  epoch: string;
  offset: number;
  publications: contract.Publication[];
  /** Unix ms. */
  historyExpiresAt: number;
  stateExpiresAt: number;
}

const sweepIntervalMs = 10_000;
/** Placeholder for ephemeral items, which have no position. */
const nowhere: contract.Position = { epoch: "", offset: 0 };

/** Where publications with `changes` are appended. */
export interface ChangeAppender {
  append(
    change: contract.Publication & { channel: string; epoch: string; row?: contract.RowName; origin?: string },
    retention: contract.ChangeRetention,
  ): void;
}

/** Channels of a single process, lost when it ends. */
export class MemoryBroker implements contract.ChannelBroker {
  readonly state = "ok";
  readonly #channels = new Map<string, StoredChannel>();
  /** By kind, channel and id. Insertion order is expiry order. */
  readonly #seenIds = new Map<string, { position: contract.Position; expiresAt: number }>();
  /** By slot and name of the sequence. */
  readonly #marks = new Map<string, string>();
  readonly #followed = new Set<string>();
  readonly #listeners: contract.BrokerListener[] = [];
  readonly #errors: ContainedErrors;
  readonly #log: ChangeAppender | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  /** @param log absent where nothing is published with `changes`. */
  constructor(errors: ContainedErrors, log?: ChangeAppender) {
    this.#errors = errors;
    this.#log = log;
  }

  async start(): Promise<void> {
    this.#sweeper = this.#errors.every(sweepIntervalMs, () => this.#sweep());
    this.#sweeper.unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweeper);
  }

  listen(listener: contract.BrokerListener): void {
    this.#listeners.push(listener);
  }

  async follow(topic: contract.Topic): Promise<void> {
    this.#followed.add(topicKey(topic));
  }

  async unfollow(topic: contract.Topic): Promise<void> {
    this.#followed.delete(topicKey(topic));
  }

  async publish(request: contract.PublishRequest): Promise<contract.PublishOutcome> {
    const { channel: name, event, data, retention, id, mark, expect, changes, row, origin } = request;
    const channel = this.#channel(name, retention);
    const markKey = mark && `${slotOf(name)} ${mark.name}`;
    if (mark && markKey !== undefined) {
      const stored = this.#marks.get(markKey) ?? "";
      const position = { epoch: channel.epoch, offset: channel.offset };
      if (stored >= mark.at) return { kind: "published", position, duplicate: true };
      if (stored < mark.before) throw brokerUnavailable(`a publication before this one is not stored: ${mark.name}`);
    }
    if (id !== undefined) {
      const seen = this.#seen(`p ${name} ${id}`);
      if (seen) return { kind: "published", position: seen, duplicate: true };
    }
    if (expect && (expect.epoch !== channel.epoch || expect.offset !== channel.offset)) {
      return { kind: "conflict", position: { epoch: channel.epoch, offset: channel.offset } };
    }
    const publication = { offset: channel.offset + 1, prev: channel.offset, event, data };
    channel.offset = publication.offset;
    if (retention.historySize > 0) channel.publications.push(publication);
    while (channel.publications.length > retention.historySize) channel.publications.shift();
    const now = Date.now();
    channel.historyExpiresAt = now + retention.historySeconds * 1000;
    channel.stateExpiresAt = now + stateSeconds(true, retention) * 1000;
    const position = { epoch: channel.epoch, offset: publication.offset };
    if (id !== undefined) this.#remember(`p ${name} ${id}`, position);
    if (mark && markKey !== undefined) this.#marks.set(markKey, mark.at);
    const known = { ...(row && { row }), ...(origin !== undefined && { origin }) };
    if (changes) {
      this.#log?.append({ ...publication, channel: name, epoch: channel.epoch, ...known }, changes);
    }
    if (this.#followed.has(topicKey({ kind: "channel", name }))) {
      for (const listener of this.#listeners) listener.onPublication(name, channel.epoch, publication);
    }
    return { kind: "published", position, duplicate: false };
  }

  async publishEphemeral(request: contract.EphemeralRequest): Promise<{ duplicate: boolean }> {
    const { channel, event, data, id, mark } = request;
    if (mark) {
      const markKey = `${slotOf(channel)} ${mark.name}`;
      if ((this.#marks.get(markKey) ?? "") >= mark.at) return { duplicate: true };
      this.#marks.set(markKey, mark.at);
    }
    if (id !== undefined) {
      if (this.#seen(`e ${channel} ${id}`)) return { duplicate: true };
      this.#remember(`e ${channel} ${id}`, nowhere);
    }
    if (this.#followed.has(topicKey({ kind: "channel", name: channel }))) {
      for (const listener of this.#listeners) listener.onEphemeral(channel, { event, data });
    }
    return { duplicate: false };
  }

  async sendToUser(user: IdentityKey, message: contract.UserMessage): Promise<void> {
    if (!this.#followed.has(topicKey({ kind: "user", name: user }))) return;
    for (const listener of this.#listeners) listener.onUserMessage(user, message);
  }

  async readHistory(query: contract.HistoryQuery): Promise<contract.HistorySlice> {
    const channel = this.#channel(query.channel, query.retention);
    const position = { epoch: channel.epoch, offset: channel.offset };
    const otherEpoch = query.epoch !== undefined && query.epoch !== channel.epoch;
    if (otherEpoch || query.limit === 0) return { position, publications: [], more: false };
    const { after = -1, limit, maxBytes, newest = false } = query;
    const kept = channel.publications.filter(({ offset }) => offset > after);
    const publications: contract.Publication[] = [];
    let bytes = 0;
    for (const publication of newest ? kept.toReversed() : kept) {
      bytes += Buffer.byteLength(publication.data);
      if (publications.length >= limit || (bytes > maxBytes && publications.length > 0)) break;
      publications.push(publication);
    }
    const more = publications.length < kept.length;
    if (newest) publications.reverse();
    const keptForMs = channel.historyExpiresAt - Date.now();
    return { position, publications, more, ...(publications.length > 0 && { keptForMs }) };
  }

  #channel(name: string, retention: contract.Retention): StoredChannel {
    const now = Date.now();
    let channel = this.#channels.get(name);
    if (!channel || channel.stateExpiresAt <= now) {
      channel = { epoch: newEpoch(), offset: 0, publications: [], historyExpiresAt: 0, stateExpiresAt: 0 };
      this.#channels.set(name, channel);
    }
    if (channel.historyExpiresAt <= now) channel.publications = [];
    channel.stateExpiresAt = now + stateSeconds(channel.offset > 0, retention) * 1000;
    return channel;
  }

  #seen(key: string): contract.Position | undefined {
    const seen = this.#seenIds.get(key);
    return seen && seen.expiresAt > Date.now() ? seen.position : undefined;
  }

  #remember(key: string, position: contract.Position): void {
    this.#seenIds.delete(key);
    this.#seenIds.set(key, { position, expiresAt: Date.now() + idempotencySeconds * 1000 });
  }

  #sweep(): void {
    const now = Date.now();
    for (const [key, seen] of this.#seenIds) {
      if (seen.expiresAt > now) break;
      this.#seenIds.delete(key);
    }
    for (const [name, channel] of this.#channels) {
      if (channel.historyExpiresAt <= now) channel.publications = [];
      if (channel.stateExpiresAt <= now) this.#channels.delete(name);
    }
  }
}

function topicKey(topic: contract.Topic): string {
  return `${topic.kind} ${topic.name}`;
}
