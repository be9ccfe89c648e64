import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { hashTag, isBug, primaryOf, type RedisClient, refreshSlots } from "./client.ts";
import type { Logger } from "../runtime/logging.ts";
import { type StoreState, worstState } from "../runtime/store-state.ts";
import type { ProbeSender } from "./probe.ts";
import type { ReadReplica } from "./read-replica.ts";
import type { Refusal } from "./refusals.ts";
import { everySlot } from "./slots.ts";
import { TopicConnection } from "./topic-connection.ts";

/** Every hash tag that a channel's or a user's topic can carry. */
const slotTags = everySlot.map(String);

export interface TopicListener {
  onMessage(topic: string, message: string): void;
  /** All topics are subscribed again, except those of servers that stay away. Messages may have been lost before. */
  onRestored(): void;
}

export interface SubscriptionsOptions {
  /** The client for commands: it knows which primary owns a topic. */
  commands: RedisClient;
  isCluster: boolean;
  /** Begins the names of all topics. */
  root: string;
  replica: ReadReplica | undefined;
  openSubscriber: (primary: string) => Redis;
  probeSender: ProbeSender;
  logger: Logger;
}

/** The topics of one process: one {@link TopicConnection}, or in a cluster one per primary. */
export class Subscriptions {
  readonly #options: SubscriptionsOptions;
  readonly #process = randomUUID();
  /** By primary. */
  readonly #connections = new Map<string, TopicConnection>();
  readonly #listeners = new Set<TopicListener>();
  /** Topics that wait for a primary that owns them. */
  readonly #unplaced = new Set<string>();
  /** Messages may have been lost, and the listeners do not know yet. */
  #interrupted = true;
  readonly #firstRestored = Promise.withResolvers<void>();

  constructor(options: SubscriptionsOptions) {
    this.#options = options;
  }

  get state(): StoreState {
    return worstState([...this.#connections.values()].map(({ state }) => state));
  }

  /** Why a primary takes no writes. */
  get refusal(): Refusal | undefined {
    return [...this.#connections.values()].find(({ refusal }) => refusal)?.refusal;
  }

  /** Resolves when messages arrive for the first time. */
  get restored(): Promise<void> {
    return this.#firstRestored.promise;
  }

  /** The subscriptions use the replica, where there is one. */
  get atReplica(): boolean {
    return this.#connections.get("")?.atBestPlace === true;
  }

  /** @returns ends that. */
  listen(listener: TopicListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  stop(): void {
    this.#listeners.clear();
    for (const connection of this.#connections.values()) connection.stop();
  }

  /** Resolves once this process receives everything published from now on. */
  async subscribe(topic: string): Promise<void> {
    await this.#ownerOf(topic).subscribe(topic);
  }

  /** As {@link subscribe}. If that fails, subscribes as soon as the server can be reached, and calls listeners (`onRestored`). */
  async follow(topic: string): Promise<void> {
    try {
      await this.subscribe(topic);
    } catch (error) {
      if (isBug(error)) throw error;
      this.#followLater(topic);
    }
  }

  #followLater(topic: string): void {
    const { commands, isCluster } = this.#options;
    const primary = primaryOf(commands, topic);
    if (primary === "" && isCluster) {
      this.#unplaced.add(topic);
      return;
    }
    this.#interrupted = true;
    this.#connection(primary, topic).adopt([topic]);
  }

  /** As {@link subscribe}, for topics of one slot. */
  async subscribeAll(topics: readonly string[]): Promise<void> {
    const [first] = topics;
    if (first !== undefined) await this.#ownerOf(first).subscribeAll(topics);
  }

  async unsubscribe(topic: string): Promise<void> {
    this.#unplaced.delete(topic);
    await Promise.all(
      [...this.#connections.values()]
        .filter(({ topics }) => topics.has(topic))
        .map((connection) => connection.unsubscribe(topic)),
    );
  }

  /** Probes every connection, and restores those that are interrupted. @param afterEach called when one is done. */
  check(contain: (work: () => Promise<void>) => void, afterEach: () => void): void {
    const { commands, replica } = this.#options;
    for (const connection of this.#connections.values()) {
      contain(async () => {
        await connection.check();
        // A primary that is away must not hold back the news of the others.
        this.#notifyRestored();
        if (connection.state !== "ok") refreshSlots(commands);
        if (!connection.atBestPlace && replica?.dueToReturn()) connection.returnToBestPlace();
        afterEach();
      });
    }
  }

  /** Moves every topic to the primary that owns it now, and drops connections to primaries that own none. */
  relocate(): void {
    const { commands, isCluster, root } = this.#options;
    if (!isCluster) {
      this.#connection("", "");
      return;
    }
    const moves = this.#releaseMoved();
    if (moves.size > 0) this.#interrupted = true;
    for (const tag of slotTags) {
      const topic = `${root}:{${tag}}:`;
      const owner = primaryOf(commands, topic);
      if (owner !== "") this.#connection(owner, topic);
    }
    for (const [owner, topics] of moves) this.#connection(owner, topics[0] ?? "").adopt(topics);
    const unplaced = [...this.#unplaced];
    this.#unplaced.clear();
    for (const topic of unplaced) this.#followLater(topic);
    for (const [primary, connection] of this.#connections) {
      const [topic] = connection.topics;
      const probe = this.#probeTopic(primary, ...(topic === undefined ? [] : [topic]));
      if (primaryOf(commands, probe) === primary) connection.probeAt(probe);
      else {
        connection.stop();
        this.#connections.delete(primary);
      }
    }
    this.#notifyRestored();
  }

  /** After a failover. Not for a cluster: there {@link relocate} follows slot by slot. */
  followPrimary(): void {
    if (this.#options.isCluster) return;
    for (const connection of this.#connections.values()) connection.followPrimary();
  }

  #ownerOf(topic: string): TopicConnection {
    const { commands, isCluster } = this.#options;
    const primary = primaryOf(commands, topic);
    if (primary === "" && isCluster) throw new Error("no primary of the cluster is known");
    return this.#connection(primary, topic);
  }

  /** @returns the topics whose owner has changed, by new owner. */
  #releaseMoved(): Map<string, string[]> {
    const { commands } = this.#options;
    const moves = new Map<string, string[]>();
    for (const [primary, connection] of this.#connections) {
      const moved = [...connection.topics].filter((topic) => {
        const owner = primaryOf(commands, topic);
        return owner !== "" && owner !== primary;
      });
      for (const topic of moved) {
        const owner = primaryOf(commands, topic);
        moves.set(owner, [...(moves.get(owner) ?? []), topic]);
      }
      connection.release(moved);
    }
    return moves;
  }

  #connection(primary: string, topic: string): TopicConnection {
    let connection = this.#connections.get(primary);
    if (!connection) {
      const { commands, replica, openSubscriber, probeSender, logger } = this.#options;
      const ofPrimary = (): Redis => openSubscriber(primary);
      connection = new TopicConnection({
        open: replica ? [() => replica.createSubscriber(), ofPrimary] : [ofPrimary],
        // A replica that is away at the start is tried again later, like one that goes away later.
        beginAt: replica && !replica.isReady ? 1 : 0,
        probeSender,
        probeTopic: this.#probeTopic(primary, topic),
        onMessage: (name, message) => {
          for (const listener of this.#listeners) listener.onMessage(name, message);
        },
        onInterrupted: () => (this.#interrupted = true),
        onRestored: () => this.#notifyRestored(),
        onMoved: () => refreshSlots(commands),
        logger,
      });
      this.#connections.set(primary, connection);
      connection.start();
    }
    return connection;
  }

  /** A probe topic that the primary owns. */
  #probeTopic(primary: string, ...candidates: string[]): string {
    const { commands, root } = this.#options;
    const isOwn = (topic: string): boolean => primaryOf(commands, topic) === primary;
    const probeAt = (tag: string): string => `${root}:{${tag}}:probe:${this.#process}`;
    const known = slotTags.map(probeAt).find(isOwn);
    return known ?? candidates.map((topic) => probeAt(hashTag(topic))).find(isOwn) ?? probeAt("0");
  }

  /** Waits for connections that are expected back soon: listeners then compare all their positions at once. */
  #notifyRestored(): void {
    const connections = [...this.#connections.values()];
    if (!this.#interrupted || connections.some(({ awaited }) => awaited) || !connections.some(({ live }) => live))
      return;
    this.#interrupted = false;
    this.#firstRestored.resolve();
    for (const listener of this.#listeners) listener.onRestored();
  }
}
