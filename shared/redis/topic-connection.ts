import type { Redis } from "ioredis";
import type { Logger } from "../runtime/logging.ts";
import type { StoreState } from "../runtime/store-state.ts";
import { jittered } from "../runtime/timing.ts";
import { isTimeout } from "./client.ts";
import { Probe, type ProbeOutcome, type ProbeSender } from "./probe.ts";
import type { Refusal } from "./refusals.ts";
import { TopicSet } from "./topic-set.ts";

const restoreRetryMs = 500;
/** After this long without a connection the next place is tried. */
const tryNextAfterMs = 4_000;
/** All processes reconnect to a primary that was away; within this time none of them counts as deaf. */
const reconnectGraceMs = 2_500;

export interface TopicConnectionOptions {
  /** One per place, the best one first; each opens a subscriber that is not connected yet. The last place is the primary. */
  open: readonly (() => Redis)[];
  /** Index of the first place to try. */
  beginAt: number;
  /** Publishes at the primary. */
  probeSender: ProbeSender;
  probeTopic: string;
  onMessage: (topic: string, message: string) => void;
  /** Messages may be lost from now on. */
  onInterrupted: () => void;
  /** All topics are subscribed again, and a probe arrived. */
  onRestored: () => void;
  /** The server does not own one of the topics. */
  onMoved: () => void;
  logger: Logger;
}

/**
 * The topics that one server serves, over a connection of their own. After an interruption it subscribes again by itself. Its
 * probe finds a subscription that was lost silently; then the connection reopens.
 */
export class TopicConnection {
  readonly #options: TopicConnectionOptions;
  readonly #topics = new TopicSet();
  #probe: Probe;
  #place: number;
  #client: Redis | undefined;
  /** All topics are subscribed, and the last probe arrived. */
  #live = false;
  #interruptedAt = performance.now();
  /** When the connection to the present place was opened, by `performance.now()`. */
  #openedAt = performance.now();
  /** Counts interruptions: an answer to a question from before one says nothing about the time after it. */
  #generation = 0;
  #restoring = false;
  #checking = false;
  /** The last probe could be published. A Redis that hangs keeps its connections open. */
  #answering = true;
  #answeringSince = performance.now();
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: TopicConnectionOptions) {
    this.#options = options;
    this.#place = options.beginAt;
    this.#probe = this.#newProbe(options.probeTopic);
  }

  get state(): StoreState {
    if (!this.#answering) return "away";
    if (this.#live) return this.refusal ? "refusing" : "ok";
    const since = Math.max(this.#interruptedAt, this.#answeringSince);
    return performance.now() - since < reconnectGraceMs ? "away" : "deaf";
  }

  get live(): boolean {
    return this.#live;
  }

  /** Why the primary refused the last write. */
  get refusal(): Refusal | undefined {
    return this.#probe.refusal;
  }

  /** Not live, and expected to be live soon. */
  get awaited(): boolean {
    return this.#answering && !this.#live;
  }

  /** Uses the first place. */
  get atBestPlace(): boolean {
    return this.#place === 0;
  }

  get topics(): ReadonlySet<string> {
    return this.#topics.all;
  }

  start(): void {
    this.#reopen();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#client?.disconnect();
  }

  /** Resolves once this process receives everything published from now on. */
  async subscribe(topic: string): Promise<void> {
    await this.#subscribe([topic]);
  }

  /** As {@link subscribe}: all of them, or none. */
  async subscribeAll(topics: readonly string[]): Promise<void> {
    await this.#subscribe(topics.filter((topic) => !this.topics.has(topic)));
  }

  async unsubscribe(topic: string): Promise<void> {
    await this.#topics.unsubscribe(this.#client, topic);
  }

  /** Adds topics that moved to this server. Counts as an interruption of all its topics. */
  adopt(topics: readonly string[]): void {
    this.#topics.add(topics);
    this.#interrupt();
    void this.#restore();
  }

  /** Drops topics that moved to another server. */
  release(topics: readonly string[]): void {
    this.#topics.release(this.#client, topics);
  }

  /** Replaces a probe topic that this server no longer owns. */
  probeAt(topic: string): void {
    if (topic === this.#probe.topic) return;
    this.#probe = this.#newProbe(topic);
    this.#interrupt();
    void this.#restore();
  }

  /** Returns to the first place, e.g. a replica that works again. */
  returnToBestPlace(): void {
    this.#place = 0;
    this.#reopen();
  }

  /** Reopens after a failover, if the connection uses the primary (the last place). */
  followPrimary(): void {
    if (this.#place === this.#options.open.length - 1) this.#reopen();
  }

  /** The heartbeat: finds interruptions that no event reported. */
  async check(): Promise<void> {
    if (this.#checking || this.#stopped) return;
    this.#checking = true;
    if (this.#live) await this.#checkLive();
    else await this.#checkInterrupted();
    this.#checking = false;
  }

  async #checkLive(): Promise<void> {
    const generation = this.#generation;
    const outcome = await this.#answeredBy(this.#probe.send());
    if (outcome !== "lost" || !this.#live || generation !== this.#generation) return;
    this.#options.logger.warn("subscriptions are silent while commands are answered, reconnecting");
    this.#tryNext();
  }

  async #checkInterrupted(): Promise<void> {
    const outcome = await this.#answeredBy(
      this.#probe.ask().then((answered) => (answered ? "returned" : "unanswered")),
    );
    if (outcome === "unanswered" || this.#live || this.#restoring) return;
    if (this.#client?.status === "ready") await this.#restore();
    else if (performance.now() - Math.max(this.#interruptedAt, this.#openedAt) > tryNextAfterMs) this.#tryNext();
  }

  async #answeredBy(asked: Promise<ProbeOutcome>): Promise<ProbeOutcome> {
    const outcome = await asked;
    const answering = outcome !== "unanswered";
    if (answering && !this.#answering) this.#answeringSince = performance.now();
    this.#answering = answering;
    return outcome;
  }

  get #openClient(): Redis {
    if (!this.#client) throw new Error("no connection for subscriptions");
    return this.#client;
  }

  async #subscribe(topics: readonly string[]): Promise<void> {
    try {
      await this.#topics.subscribe(this.#openClient, topics);
    } catch (error) {
      if (isMoved(error)) this.#options.onMoved();
      throw error;
    }
  }

  #newProbe(topic: string): Probe {
    return new Probe({ topic, sender: this.#options.probeSender });
  }

  #tryNext(): void {
    this.#place = (this.#place + 1) % this.#options.open.length;
    this.#reopen();
  }

  #reopen(): void {
    if (this.#stopped) return;
    this.#interrupt();
    // Each place gets the full time. The node stays deaf meanwhile: no message arrives.
    this.#openedAt = performance.now();
    this.#client?.disconnect();
    const client = this.#options.open[this.#place]?.();
    if (!client) return;
    this.#client = client;
    client.on("smessage", (topic: string, message: string) => {
      if (client !== this.#client) return;
      this.#probe.receive(topic, message);
      if (topic !== this.#probe.topic) this.#options.onMessage(topic, message);
    });
    client.on("close", () => {
      if (client === this.#client) this.#interrupt();
    });
    // The server dropped subscriptions because their slot moved.
    client.on("moved", () => {
      if (client !== this.#client) return;
      this.#interrupt();
      this.#options.onMoved();
      this.#retryLater();
    });
    client.on("ready", () => void this.#restore());
    // The error event reports a failed attempt, and the client retries it.
    client.connect().catch(() => undefined);
  }

  #interrupt(): void {
    this.#generation++;
    if (!this.#live) return;
    this.#live = false;
    this.#interruptedAt = performance.now();
    this.#options.onInterrupted();
  }

  /** Subscribes to everything again; retried until it succeeds or the connection closes. */
  async #restore(): Promise<void> {
    clearTimeout(this.#retry);
    const client = this.#client;
    if (this.#restoring || this.#stopped || client?.status !== "ready") return;
    this.#restoring = true;
    const probe = this.#probe;
    // An interruption from here on needs another restoration.
    this.#interrupt();
    const generation = this.#generation;
    try {
      // After onRestored, listeners send commands: the primary must answer.
      if (!(await probe.ask())) {
        this.#retryLater();
        return;
      }
      await this.#topics.restore(client, probe.topic);
      const outcome = await this.#answeredBy(probe.send());
      if (generation !== this.#generation || outcome === "unanswered") {
        this.#retryLater();
        return;
      }
      if (outcome === "lost") {
        this.#options.logger.warn("a probe did not arrive over new subscriptions, reconnecting");
        this.#tryNext();
        return;
      }
      this.#live = true;
      this.#options.onRestored();
    } catch (error) {
      if (isMoved(error)) this.#options.onMoved();
      this.#options.logger.warn({ err: error }, "subscribing again failed, retrying");
      if (isTimeout(error) && generation === this.#generation) this.#tryNext();
      else this.#retryLater();
    } finally {
      this.#restoring = false;
    }
  }

  #retryLater(): void {
    clearTimeout(this.#retry);
    if (this.#stopped) return;
    this.#retry = setTimeout(() => void this.#restore(), jittered(restoreRetryMs, 0.5));
  }
}

function isMoved(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("MOVED");
}
