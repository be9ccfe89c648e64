import type { Redis } from "ioredis";
import type { Logger } from "../runtime/logging.ts";
import type { StoreState } from "../runtime/store-state.ts";
import { jittered } from "../runtime/timing.ts";
import { hashTag, isTimeout } from "./connect.ts";
import { Probe, type ProbeOutcome, type ProbeSender } from "./probe.ts";
import type { Refusal } from "./refusals.ts";

/** Topics in one SSUBSCRIBE, so that no single command holds the connection long. */
const subscribeBatch = 100;
const restoreRetryMs = 500;
/** A connection that is not there for this long is looked for elsewhere. */
const patienceMs = 4_000;
/** A primary that comes back is connected to anew by everyone: until then nobody counts as deaf. */
const reconnectGraceMs = 2_500;

export interface TopicConnectionOptions {
  /** Opens a subscriber, not connected yet: the best place first, another where that one stays silent. */
  open: readonly (() => Redis)[];
  /** Index of the place to begin at. */
  beginAt: number;
  /** To the primary. */
  probeSender: ProbeSender;
  probeTopic: string;
  onMessage: (topic: string, message: string) => void;
  /** Messages may be lost from here on. */
  onInterrupted: () => void;
  /** Everything is subscribed again, and a probe came back. */
  onRestored: () => void;
  /** The server does not own a topic, or not any more. */
  onMoved: () => void;
  logger: Logger;
}

/**
 * The subscriptions that one server serves, over a connection of their own. They come back by themselves after an
 * interruption; one that nobody noticed is found by its probe, and the connection is opened anew.
 */
export class TopicConnection {
  readonly #options: TopicConnectionOptions;
  readonly #topics = new Set<string>();
  #probe: Probe;
  #place: number;
  #client: Redis | undefined;
  /** Everything is subscribed, and the last probe came back. */
  #live = false;
  #interruptedAt = performance.now();
  /** Counts interruptions: what was asked before one says nothing about what came after it. */
  #generation = 0;
  #restoring = false;
  #checking = false;
  /** The last probe could be sent: a Redis that hangs keeps its connections open. */
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

  /** Why the primary took no write when it was asked last. */
  get refusal(): Refusal | undefined {
    return this.#probe.refusal;
  }

  /** Not live, and expected to be soon. */
  get awaited(): boolean {
    return this.#answering && !this.#live;
  }

  /** At the first place, where there are several. */
  get atBestPlace(): boolean {
    return this.#place === 0;
  }

  get topics(): ReadonlySet<string> {
    return this.#topics;
  }

  start(): void {
    this.#reopen();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#client?.disconnect();
  }

  /** Resolves once everything published from now on is received. */
  async subscribe(topic: string): Promise<void> {
    if (!this.#client) throw new Error("no connection for subscriptions");
    this.#topics.add(topic);
    try {
      await this.#client.ssubscribe(topic);
    } catch (error) {
      this.#topics.delete(topic);
      if (isMoved(error)) this.#options.onMoved();
      throw error;
    }
  }

  async unsubscribe(topic: string): Promise<void> {
    this.#topics.delete(topic);
    await this.#client?.sunsubscribe(topic);
  }

  /** Topics that this server serves from now on; an interruption for all that it serves. */
  adopt(topics: readonly string[]): void {
    for (const topic of topics) this.#topics.add(topic);
    this.#interrupt();
    void this.#restore();
  }

  /** Topics that another server serves from now on. */
  release(topics: readonly string[]): void {
    for (const topic of topics) {
      this.#topics.delete(topic);
      // Whether this server still has it does not matter.
      if (this.#client?.status === "ready") this.#client.sunsubscribe(topic).catch(() => undefined);
    }
  }

  /** Where this server does not own the old one any more. */
  probeAt(topic: string): void {
    if (topic === this.#probe.topic) return;
    this.#probe = this.#newProbe(topic);
    this.#interrupt();
    void this.#restore();
  }

  /** Back to the first place, e.g. once that is known to be well. */
  returnToBestPlace(): void {
    this.#place = 0;
    this.#reopen();
  }

  /** The primary is elsewhere: of the places the last leads to it. */
  followPrimary(): void {
    if (this.#place === this.#options.open.length - 1) this.#reopen();
  }

  /** The heartbeat: finds what nobody told. */
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
    this.#options.logger.warn("subscriptions are silent although commands are answered, connecting anew");
    this.#tryNext();
  }

  async #checkInterrupted(): Promise<void> {
    const outcome = await this.#answeredBy(
      this.#probe.ask().then((answered) => (answered ? "returned" : "unanswered")),
    );
    if (outcome === "unanswered" || this.#live || this.#restoring) return;
    if (this.#client?.status === "ready") await this.#restore();
    else if (performance.now() - this.#interruptedAt > patienceMs) this.#tryNext();
  }

  async #answeredBy(asked: Promise<ProbeOutcome>): Promise<ProbeOutcome> {
    const outcome = await asked;
    const answering = outcome !== "unanswered";
    if (answering && !this.#answering) this.#answeringSince = performance.now();
    this.#answering = answering;
    return outcome;
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
    // Elsewhere it gets its own time.
    this.#interruptedAt = performance.now();
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
    // The server took subscriptions away: their slot is elsewhere.
    client.on("moved", () => {
      if (client !== this.#client) return;
      this.#interrupt();
      this.#options.onMoved();
      this.#retryLater();
    });
    client.on("ready", () => void this.#restore());
    // A failed attempt is reported by the error event, and repeated by the client itself.
    client.connect().catch(() => undefined);
  }

  #interrupt(): void {
    this.#generation++;
    if (!this.#live) return;
    this.#live = false;
    this.#interruptedAt = performance.now();
    this.#options.onInterrupted();
  }

  /** Until it succeeds, for as long as the connection is there. */
  async #restore(): Promise<void> {
    clearTimeout(this.#retry);
    const client = this.#client;
    if (this.#restoring || this.#stopped || client?.status !== "ready") return;
    this.#restoring = true;
    const probe = this.#probe;
    // An interruption from here on calls for another restoration.
    this.#interrupt();
    const generation = this.#generation;
    try {
      // Who gets messages again wants to ask, too.
      if (!(await probe.ask())) {
        this.#retryLater();
        return;
      }
      await this.#subscribeAll(client, probe);
      const outcome = await this.#answeredBy(probe.send());
      if (generation !== this.#generation || outcome === "unanswered") {
        this.#retryLater();
        return;
      }
      if (outcome === "lost") {
        this.#options.logger.warn("a probe did not come back over new subscriptions, connecting anew");
        this.#tryNext();
        return;
      }
      this.#live = true;
      this.#options.onRestored();
    } catch (error) {
      if (isMoved(error)) this.#options.onMoved();
      this.#options.logger.warn({ err: error }, "could not subscribe again, trying once more");
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

  async #subscribeAll(client: Redis, probe: Probe): Promise<void> {
    const byTag = Map.groupBy([...this.#topics, probe.topic], hashTag);
    for (const topics of byTag.values()) {
      for (let at = 0; at < topics.length; at += subscribeBatch) {
        // Some may have been unsubscribed since.
        const wanted = (topic: string): boolean => topic === probe.topic || this.#topics.has(topic);
        const batch = topics.slice(at, at + subscribeBatch).filter(wanted);
        if (batch.length > 0) await client.ssubscribe(...batch);
      }
    }
  }
}

function isMoved(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("MOVED");
}
