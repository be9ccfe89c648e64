import { randomUUID } from "node:crypto";
import { slotCount } from "./slots.ts";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { type StoreState, worstState } from "../runtime/store-state.ts";
import { withDeadline } from "../runtime/timing.ts";
import { parseNamedPrimary } from "./address.ts";
import { RedisCommands } from "./commands.ts";
import {
  connect,
  hashTag,
  openSentinels,
  primaryOf,
  reconnectNow,
  type RedisClient,
  RedisServers,
  type RedisTarget,
  refreshSlots,
  rootError,
  rootOf,
} from "./connect.ts";
import type { ProbeSender } from "./probe.ts";
import { ReadReplica } from "./read-replica.ts";
import { refusalOf } from "./refusals.ts";
import { defineScript } from "./scripts.ts";
import { Sentinels } from "./sentinels.ts";
import { TopicConnection } from "./topic-connection.ts";

/** Wait for Redis at the start; past it the process starts without, and is not ready. */
const startWaitMs = 5_000;
const heartbeatMs = 2_000;
/** Hash tags of what channels and users have, whoever owns them. */
const slotTags = Array.from({ length: slotCount }, (_, slot) => String(slot));

export interface TopicListener {
  onMessage(topic: string, message: string): void;
  /** Messages may be lost from here on; may be told more than once. */
  onInterrupted(): void;
  /** Everything subscribed that can be is subscribed again. */
  onRestored(): void;
}

/**
 * What one process has open to Redis: a connection for commands and one for subscriptions, in a cluster one of each per
 * primary. Each subscriber connection is probed with the heartbeat.
 *
 * Topics are sharded pub/sub channels and carry a hash tag, as in `tidegate:{17}:…`. Who follows one begins it with {@link root}.
 */
export class RedisConnections implements Service {
  /** What the names of all keys and topics begin with; a colon and a hash tag follow. */
  readonly root: string;
  readonly #commands: RedisCommands;
  /** Where history may be read instead; undefined: nowhere. */
  readonly replica: ReadReplica | undefined;
  readonly #target: RedisTarget;
  readonly #errors: ContainedErrors;
  readonly #servers: RedisServers;
  readonly #sentinels: Sentinels | undefined;
  readonly #logger: Logger;
  readonly #process = randomUUID();
  /** By primary. */
  readonly #subscribers = new Map<string, TopicConnection>();
  readonly #listeners: TopicListener[] = [];
  readonly #probeSender: ProbeSender = {
    write: (topic, message) => this.run("tidegateProbe", topic, topic, message),
    publish: (topic, message) => this.run("spublish", topic, message),
  };
  #heartbeat: NodeJS.Timeout | undefined;
  /** The state that was logged last, and why. */
  #logged = "";
  /** Why the connection for commands is not ready: the first error of the last attempt that failed. */
  #lastError: Error | undefined;
  #attemptFailed = false;
  #untold = true;
  #started: (() => void) | undefined;

  constructor(options: { target: RedisTarget; errors: ContainedErrors; logger: Logger }) {
    const { target, errors, logger } = options;
    this.root = rootOf(target);
    this.#target = target;
    this.#errors = errors;
    this.#logger = logger;
    if (target.kind === "sentinel") {
      this.#sentinels = new Sentinels({
        name: parseNamedPrimary(target.master).name,
        clients: openSentinels(target, logger),
        searching: () => this.state !== "ok",
        onMoved: () => {
          reconnectNow(this.commands);
          this.#followPrimary();
        },
        errors,
        logger,
      });
    }
    this.#servers = new RedisServers({ target, logger, ...(this.#sentinels && { source: this.#sentinels }) });
    this.#commands = new RedisCommands(this.#servers.openClient(), () => this.#followPrimary());
    defineScript(this.commands, "tidegateProbe", new URL("probe.lua", import.meta.url), 1);
    if (target.kind !== "cluster" && target.readUrl !== undefined) {
      this.replica = new ReadReplica({
        target: { kind: "standalone", url: target.readUrl, ...(target.tls && { tls: target.tls }) },
        // A replica whose messages do not come back may have lost its primary.
        trusted: () => this.#subscribers.get("")?.atBestPlace === true && this.state === "ok",
        logger,
      });
    }
  }

  /** For what {@link run} does not fit. */
  get commands(): RedisClient {
    return this.#commands.client;
  }

  /** Commands without an answer yet. */
  get pendingCommands(): number {
    return this.#commands.pending;
  }

  get state(): StoreState {
    if (this.commands.status !== "ready" || !this.#commands.answering) return "away";
    return worstState([...this.#subscribers.values()].map(({ state }) => state));
  }

  /** @see RedisCommands.run */
  async run<Reply>(name: string, ...keysAndArguments: (string | number)[]): Promise<Reply> {
    return this.#commands.run(name, ...keysAndArguments);
  }

  async start(): Promise<void> {
    this.commands.on(
      "refresh",
      this.#errors.guarded("store", () => this.#relocate()),
    );
    this.commands.on("connecting", () => (this.#attemptFailed = false));
    this.commands.on("error", (error: Error) => {
      if (!this.#attemptFailed) this.#lastError = rootError(error);
      this.#attemptFailed = true;
    });
    this.commands.on(
      "ready",
      this.#errors.guarded("store", () => {
        this.#lastError = undefined;
        this.#checkAll();
      }),
    );
    const restored = new Promise<void>((resolve) => (this.#started = resolve));
    const deadline = performance.now() + startWaitMs;
    await this.#sentinels?.start();
    await Promise.all([connect(this.commands, startWaitMs), this.replica?.start(startWaitMs)]);
    this.#relocate();
    this.#heartbeat = this.#errors.every(heartbeatMs, () => this.#checkAll());
    await withDeadline(restored, deadline - performance.now(), () => undefined);
    this.#logState();
  }

  async stop(): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#listeners.length = 0;
    this.commands.removeAllListeners("refresh");
    await this.#sentinels?.stop();
    for (const subscriber of this.#subscribers.values()) subscriber.stop();
    this.replica?.stop();
    this.#commands.stop();
  }

  listen(listener: TopicListener): void {
    this.#listeners.push(listener);
  }

  /** Resolves once everything published from now on is received. */
  async subscribe(topic: string): Promise<void> {
    await this.#subscriberOf(topic).subscribe(topic);
  }

  async unsubscribe(topic: string): Promise<void> {
    await Promise.all(
      [...this.#subscribers.values()]
        .filter(({ topics }) => topics.has(topic))
        .map((subscriber) => subscriber.unsubscribe(topic)),
    );
  }

  #subscriberOf(topic: string): TopicConnection {
    const primary = primaryOf(this.commands, topic);
    if (primary === "" && this.#target.kind === "cluster") throw new Error("no primary of the cluster is known");
    return this.#subscriber(primary, topic);
  }

  #subscriber(primary: string, topic: string): TopicConnection {
    let subscriber = this.#subscribers.get(primary);
    if (!subscriber) {
      const { replica } = this;
      const ofPrimary = () => this.#servers.openSubscriber(this.commands, primary);
      subscriber = new TopicConnection({
        open: replica ? [() => replica.createSubscriber(), ofPrimary] : [ofPrimary],
        // A replica that is away when the process starts is gone back to like one that went away later.
        beginAt: replica && replica.client.status !== "ready" ? 1 : 0,
        probeSender: this.#probeSender,
        probeTopic: this.#probeTopic(primary, topic),
        onMessage: (name, message) => {
          for (const listener of this.#listeners) listener.onMessage(name, message);
        },
        onInterrupted: () => this.#tellInterrupted(),
        onRestored: () => this.#tellRestored(),
        onMoved: () => refreshSlots(this.commands),
        logger: this.#logger,
      });
      this.#subscribers.set(primary, subscriber);
      subscriber.start();
    }
    return subscriber;
  }

  /** One that the primary owns. */
  #probeTopic(primary: string, ...candidates: string[]): string {
    const own = (topic: string): boolean => primaryOf(this.commands, topic) === primary;
    const probeAt = (tag: string): string => `${this.root}:{${tag}}:probe:${this.#process}`;
    const known = slotTags.map(probeAt).find(own);
    return known ?? candidates.map((topic) => probeAt(hashTag(topic))).find(own) ?? probeAt("0");
  }

  /** Follows the slots of a cluster: topics go where their primary is; a primary that owns no topic is left. */
  #relocate(): void {
    if (this.#target.kind !== "cluster") {
      this.#subscriber("", "");
      return;
    }
    const moves = new Map<string, string[]>();
    for (const [primary, subscriber] of this.#subscribers) {
      const moved = [...subscriber.topics].filter((topic) => {
        const owner = primaryOf(this.commands, topic);
        return owner !== "" && owner !== primary;
      });
      for (const topic of moved) {
        const owner = primaryOf(this.commands, topic);
        moves.set(owner, [...(moves.get(owner) ?? []), topic]);
      }
      subscriber.release(moved);
    }
    if (moves.size > 0) this.#tellInterrupted();
    for (const tag of slotTags) {
      const topic = `${this.root}:{${tag}}:`;
      const owner = primaryOf(this.commands, topic);
      if (owner !== "") this.#subscriber(owner, topic);
    }
    for (const [owner, topics] of moves) this.#subscriber(owner, topics[0] ?? "").adopt(topics);
    for (const [primary, subscriber] of this.#subscribers) {
      const [topic] = subscriber.topics;
      const probe = this.#probeTopic(primary, ...(topic === undefined ? [] : [topic]));
      if (primaryOf(this.commands, probe) === primary) subscriber.probeAt(probe);
      else {
        subscriber.stop();
        this.#subscribers.delete(primary);
      }
    }
    this.#tellRestored();
  }

  #checkAll(): void {
    for (const subscriber of this.#subscribers.values()) {
      this.#errors.contain("store", async () => {
        await subscriber.check();
        // A primary that went away must not keep back what the others have to tell.
        this.#tellRestored();
        if (subscriber.state !== "ok") refreshSlots(this.commands);
        if (!subscriber.atBestPlace && this.replica?.dueToReturn()) subscriber.returnToBestPlace();
        this.#logState();
      });
    }
    this.#logState();
  }

  /** In a cluster that happens slot by slot. */
  #followPrimary(): void {
    if (this.#target.kind === "cluster") return;
    for (const subscriber of this.#subscribers.values()) subscriber.followPrimary();
  }

  #logState(): void {
    const { state } = this;
    const reason = state === "ok" ? "" : this.#reason(state);
    if (`${state} ${reason}` === this.#logged) return;
    this.#logged = `${state} ${reason}`;
    if (state === "ok") this.#logger.info("redis takes writes and passes messages on");
    else this.#logger.warn({ state, reason }, "redis cannot be used as it should be");
  }

  #reason(state: StoreState): string {
    if (state === "deaf") return "messages do not come back";
    const refused = [...this.#subscribers.values()].find((subscriber) => subscriber.refusal);
    const refusal = refused?.refusal ?? refusalOf(this.#lastError);
    return refusal?.reason ?? this.#lastError?.message ?? "it does not answer";
  }

  #tellInterrupted(): void {
    this.#untold = true;
    for (const listener of this.#listeners) listener.onInterrupted();
  }

  /** Once nobody is awaited: who is told wants to compare everything at once. */
  #tellRestored(): void {
    const subscribers = [...this.#subscribers.values()];
    if (!this.#untold || subscribers.some(({ awaited }) => awaited) || !subscribers.some(({ live }) => live)) return;
    this.#untold = false;
    this.#started?.();
    for (const listener of this.#listeners) listener.onRestored();
  }
}
