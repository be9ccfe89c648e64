import type { Service } from "../lifecycle.ts";
import type { Logger } from "../logging.ts";
import type { StoreState } from "../store-state.ts";
import { connect, createRedisClient, type RedisClient, type RedisTarget } from "./connect.ts";

/** Wait for Redis at the start; past it the process starts without, and is not ready. */
const startWaitMs = 5_000;
/** Topics in one SSUBSCRIBE, so that no single command holds the connection long. */
const subscribeBatch = 100;
const restoreRetryMs = 500;
const heartbeatMs = 2_000;

export interface TopicListener {
  onMessage(topic: string, message: string): void;
  /** Messages may be lost from here on. */
  onInterrupted(): void;
  /** Everything subscribed is subscribed again. */
  onRestored(): void;
}

/**
 * What one process has open to Redis: a connection for commands and one for subscriptions (in a cluster: one of each
 * per primary). Subscriptions come back by themselves after an interruption.
 *
 * Topics are sharded pub/sub channels and carry a hash tag, as in `tidegate:{17}:…`.
 */
export class RedisConnections implements Service {
  readonly commands: RedisClient;
  /** In a cluster the commands' client keeps the subscriber connections itself. */
  readonly #subscriber: RedisClient;
  readonly #clients: ReadonlySet<RedisClient>;
  readonly #logger: Logger;
  readonly #subscribed = new Set<string>();
  readonly #listeners: TopicListener[] = [];
  #interrupted = true;
  #restoring = false;
  #retry: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  /** The last question was answered: a Redis that hangs keeps its connections open. */
  #answering = true;
  #asking = false;

  constructor(options: { target: RedisTarget; logger: Logger }) {
    this.#logger = options.logger;
    this.commands = createRedisClient(options.target, options.logger);
    this.#subscriber =
      options.target.kind === "cluster" ? this.commands : createRedisClient(options.target, options.logger);
    this.#clients = new Set([this.commands, this.#subscriber]);
  }

  get state(): StoreState {
    if (this.commands.status !== "ready" || !this.#answering) return "away";
    return this.#interrupted ? "deaf" : "ok";
  }

  async start(): Promise<void> {
    const subscriber = this.#subscriber;
    subscriber.on("smessage", (topic: string, message: string) => {
      for (const listener of this.#listeners) listener.onMessage(topic, message);
    });
    for (const client of this.#clients) {
      for (const lost of ["close", "-subscriber"]) client.on(lost, () => this.#interrupt());
      for (const back of ["ready", "subscribersReady"]) {
        client.on(back, () => void this.#restore());
      }
    }
    await Promise.all([...this.#clients].map((client) => connect(client, startWaitMs)));
    this.#heartbeat = setInterval(() => void this.#ask(), heartbeatMs);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#retry);
    clearInterval(this.#heartbeat);
    this.#listeners.length = 0;
    for (const client of this.#clients) client.disconnect();
  }

  listen(listener: TopicListener): void {
    this.#listeners.push(listener);
  }

  /** Resolves once everything published from now on is received. */
  async subscribe(topic: string): Promise<void> {
    this.#subscribed.add(topic);
    try {
      await this.#subscriber.ssubscribe(topic);
    } catch (error) {
      this.#subscribed.delete(topic);
      throw error;
    }
  }

  async unsubscribe(topic: string): Promise<void> {
    this.#subscribed.delete(topic);
    await this.#subscriber.sunsubscribe(topic);
  }

  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    this.#answering = await this.commands.ping().then(
      () => true,
      () => false,
    );
    this.#asking = false;
    if (this.commands.status !== "ready") return;
    if (!this.#answering) this.#interrupt();
    else if (this.#interrupted) await this.#restore();
  }

  #interrupt(): void {
    if (this.#interrupted) return;
    this.#interrupted = true;
    for (const listener of this.#listeners) listener.onInterrupted();
  }

  /** Once all clients are ready: who is told wants to ask at once. Until it succeeds, for as long as they are. */
  async #restore(): Promise<void> {
    clearTimeout(this.#retry);
    if (this.#restoring || [...this.#clients].some((client) => client.status !== "ready")) return;
    this.#restoring = true;
    // An interruption from here on calls for another restoration.
    this.#interrupted = true;
    try {
      await this.#subscribeAgain();
      this.#interrupted = false;
      for (const listener of this.#listeners) listener.onRestored();
    } catch (error) {
      this.#logger.warn({ err: error }, "could not subscribe again, trying once more");
      this.#retry = setTimeout(() => void this.#restore(), restoreRetryMs);
    } finally {
      this.#restoring = false;
    }
  }

  async #subscribeAgain(): Promise<void> {
    const topics = [...this.#subscribed];
    if (this.#subscriber === this.commands) {
      await Promise.all([...new Set(topics.map(fenceOf))].map((fence) => this.#passFence(fence)));
      return;
    }
    for (let at = 0; at < topics.length; at += subscribeBatch) {
      // Some may have been unsubscribed since.
      const batch = topics.slice(at, at + subscribeBatch).filter((topic) => this.#subscribed.has(topic));
      if (batch.length > 0) await this.#subscriber.ssubscribe(...batch);
    }
  }

  /** The cluster client subscribes again by itself; the reply to a later subscription shows that it is done. */
  async #passFence(fence: string): Promise<void> {
    await this.#subscriber.ssubscribe(fence);
    await this.#subscriber.sunsubscribe(fence);
  }
}

/** A topic with the same hash tag, on which nobody publishes. */
function fenceOf(topic: string): string {
  return `${topic.slice(0, topic.indexOf("}") + 1)}:fence`;
}
