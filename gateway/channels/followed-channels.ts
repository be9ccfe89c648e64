import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type {
  BrokerListener,
  ChannelBroker,
  Ephemeral,
  HistoryQuery,
  HistorySlice,
  Position,
  Publication,
} from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type CatchUpChannel, CatchUp, type CaughtUp } from "./catch-up.ts";
import { type Follower, Hub, type HubListener } from "./hub.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import { ResyncPacing } from "./resync-pacing.ts";
import type { Subscription } from "./subscription.ts";
import { Tails } from "./tails.ts";
import { TopicFollower } from "./topic-follower.ts";

/** One read towards alignment. */
const alignLimit = 1_000;
const alignBytes = 1024 * 1024;
/** Channels whose history is read at the same time, after an interruption. */
const alignConcurrency = 32;
const repairRetryMs = 500;

/** Between two comparisons of what is quiet; also what keeps the state of a followed channel from expiring. */
const idleCheckMs = 5_000;
/** Channels that are compared in one round trip. */
const compareBatch = 500;

type HistoryRead = Omit<HistoryQuery, "channel" | "retention">;

/** The hub and the broker together: channels with local followers are followed, gaps are read from history. */
export class FollowedChannels implements Service {
  readonly #hub: Hub;
  readonly #broker: ChannelBroker;
  readonly #rules: CurrentRules;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #metrics: GatewayMetrics;
  readonly #tails = new Tails();
  readonly #catchUp: CatchUp;
  readonly #resyncs: ResyncPacing;
  readonly #topics: TopicFollower<string>;
  readonly #aligning = new Map<string, Promise<void>>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  /** Where each channel stood at the last comparison. */
  #offsetsThen = new Map<string, number>();
  #idleCheck: NodeJS.Timeout | undefined;

  constructor(options: {
    broker: ChannelBroker;
    rules: CurrentRules;
    errors: ContainedErrors;
    logger: Logger;
    metrics: GatewayMetrics;
  }) {
    this.#broker = options.broker;
    this.#rules = options.rules;
    this.#errors = options.errors;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
    this.#resyncs = new ResyncPacing((channel, follower) => this.#tellResync(channel, follower));
    this.#catchUp = new CatchUp({ tails: this.#tails, channel: (name) => this.#catchUpChannel(name) });
    const hubListener: HubListener = {
      onDelivered: (channel, epoch, publication, followers) => {
        this.#tails.append(channel, epoch, publication, this.#rules.rules.namespace(channel), Date.now());
        this.#catchUp.onDelivered(channel);
        this.#metrics.deliveries.inc(followers);
      },
      onBroken: (channel, position, lost) => {
        this.#tails.restart(channel, position);
        this.#resyncs.add(channel, lost);
      },
    };
    this.#hub = new Hub(hubListener, (name) => this.#rules.rules.namespace(name).slow === "latest");
    this.#topics = new TopicFollower({
      broker: options.broker,
      topicOf: (name) => ({ kind: "channel", name }),
      wanted: (name) => this.#hub.has(name),
      onFollowed: (name) => this.#align(name),
    });
  }

  async start(): Promise<void> {
    this.#scheduleIdleCheck();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idleCheck);
    for (const timer of this.#retries.values()) clearTimeout(timer);
    this.#resyncs.stop();
    this.#catchUp.stop();
  }

  get channelCount(): number {
    return this.#hub.channelCount;
  }

  get tailBytes(): number {
    return this.#tails.bytes;
  }

  /** Resolves once the follower gets whatever is published from now on. Rejects, and forgets it, without a broker. */
  async join(channel: string, follower: Follower): Promise<void> {
    this.#hub.add(channel, follower);
    try {
      await this.#topics.update(channel);
    } catch (error) {
      this.leave(channel, follower);
      throw error;
    }
  }

  leave(channel: string, follower: Follower): void {
    this.#hub.remove(channel, follower);
    this.#resyncs.remove(follower);
    if (this.#hub.has(channel)) return;
    this.#tails.drop(channel);
    this.#topics.update(channel).catch((error: unknown) => {
      this.#logger.debug({ err: error, channel }, "left a channel while the broker is away");
    });
  }

  /** Where live deliveries stand. @throws TidegateError where nobody follows the channel any more. */
  async position(channel: string): Promise<Position> {
    while (this.#hub.has(channel)) {
      const position = this.#hub.position(channel);
      if (position) return position;
      await this.#align(channel);
    }
    throw new TidegateError("not_subscribed", "the subscription was ended before it began");
  }

  /** What a follower that has joined missed since `from`, or why that cannot be told. */
  async catchUp(channel: string, from: Position): Promise<CaughtUp> {
    return this.#catchUp.from(channel, from);
  }

  /** The ack of a subscription is sent: deliveries go on after `position`. */
  goLive(subscription: Subscription, position: Position): void {
    if (!subscription.goLive(position)) this.#resyncs.add(subscription.channel, [subscription]);
  }

  readonly listener: Omit<BrokerListener, "onUserMessage"> = {
    onPublication: (channel: string, epoch: string, publication: Publication) => {
      if (this.#hub.receive(channel, epoch, publication)) void this.#repair(channel);
    },
    onEphemeral: (channel: string, ephemeral: Ephemeral) => this.#hub.receiveEphemeral(channel, ephemeral),
    onRestored: () => void this.#compareAll(),
  };

  /** Until it succeeds: what the channel's followers missed must reach them, or be told. */
  async #repair(channel: string): Promise<void> {
    try {
      await this.#align(channel);
    } catch (error) {
      this.#hub.misalign(channel);
      this.#logger.warn({ err: error, channel }, "history could not be read, trying again");
      if (this.#retries.has(channel)) return;
      const timer = setTimeout(() => {
        this.#retries.delete(channel);
        void this.#repair(channel);
      }, repairRetryMs);
      this.#retries.set(channel, timer.unref());
    }
  }

  /** Positions first, many in one round trip: only the history of channels that have moved is read. */
  async #compareAll(): Promise<void> {
    const channels = [...this.#hub.channels()];
    for (const channel of channels) this.#hub.misalign(channel);
    const moved: string[] = [];
    for (let at = 0; at < channels.length; at += compareBatch) {
      const batch = channels.slice(at, at + compareBatch);
      const unmoved = await Promise.all(batch.map((channel) => this.#confirm(channel)));
      moved.push(...batch.filter((_, i) => !unmoved[i]));
    }
    for (let at = 0; at < moved.length; at += alignConcurrency) {
      await Promise.all(moved.slice(at, at + alignConcurrency).map((channel) => this.#repair(channel)));
    }
  }

  /** @returns false where its position alone does not align the channel. */
  async #confirm(channel: string): Promise<boolean> {
    const alignment = this.#hub.beginAlignment(channel);
    if (!alignment) return true;
    const { from } = alignment;
    try {
      const slice = await this.#read(channel, "compare", { limit: 0, maxBytes: 0 });
      const unmoved = from?.epoch === slice.position.epoch && from.offset === slice.position.offset;
      return unmoved && !this.#hub.align(alignment, slice);
    } catch (error) {
      this.#logger.debug({ err: error, channel }, "a position could not be compared");
      return false;
    }
  }

  #tellResync(channel: string, follower: Follower): boolean {
    if (!this.#hub.has(channel)) return true;
    const position = this.#hub.position(channel);
    if (!position) return false;
    this.#errors.contain("timer", () => {
      const reason = follower.resync(position);
      if (reason) this.#metrics.resyncs.inc({ reason });
    });
    return true;
  }

  #catchUpChannel(name: string): CatchUpChannel {
    return {
      position: () => this.#hub.position(name),
      aligned: () => this.position(name),
      misalign: () => {
        this.#hub.misalign(name);
        void this.#repair(name);
      },
      read: (reading, epoch, reaching) =>
        this.#read(name, "recover", {
          ...(reading?.kind === "newest" && { newest: true }),
          ...(reading?.kind === "after" && { after: reading.offset }),
          ...(reading && { epoch }),
          reaching,
          limit: reading ? maxReplayPublications : 0,
          maxBytes: maxReplayBytes,
        }),
      extend: (at, slice, reading) =>
        this.#tails.extend(name, at, slice, reading, {
          retention: this.#rules.rules.namespace(name),
          now: Date.now(),
        }),
    };
  }

  async #read(channel: string, kind: "align" | "recover" | "compare", query: HistoryRead): Promise<HistorySlice> {
    this.#metrics.historyReads.inc({ kind });
    return this.#broker.readHistory({ channel, retention: this.#rules.rules.namespace(channel), ...query });
  }

  /** At a moment of its own, so that nodes do not ask together. */
  #scheduleIdleCheck(): void {
    this.#idleCheck = setTimeout(() => {
      this.#compareIdle()
        .catch((error: unknown) => this.#logger.debug({ err: error }, "quiet channels could not be compared"))
        .finally(() => this.#scheduleIdleCheck());
    }, jittered(idleCheckMs));
    this.#idleCheck.unref();
  }

  /** A channel whose last message was lost shows no gap until the next one: what was quiet is asked about. */
  async #compareIdle(): Promise<void> {
    const then = this.#offsetsThen;
    this.#offsetsThen = new Map();
    const quiet: string[] = [];
    for (const channel of this.#hub.channels()) {
      const offset = this.#hub.position(channel)?.offset;
      if (offset === undefined) continue;
      this.#offsetsThen.set(channel, offset);
      if (then.get(channel) === offset) quiet.push(channel);
    }
    for (let at = 0; at < quiet.length; at += compareBatch) {
      await Promise.all(quiet.slice(at, at + compareBatch).map((channel) => this.#compare(channel)));
    }
  }

  async #compare(channel: string): Promise<void> {
    const { position } = await this.#read(channel, "compare", { limit: 0, maxBytes: 0 });
    const here = this.#hub.position(channel);
    if (!here || (here.epoch === position.epoch && here.offset >= position.offset)) return;
    this.#hub.misalign(channel);
    await this.#repair(channel);
  }

  /** One read at a time for each channel. */
  async #align(channel: string): Promise<void> {
    if (!this.#hub.has(channel) || this.#hub.position(channel)) return;
    let aligning = this.#aligning.get(channel);
    if (!aligning) {
      aligning = this.#readUntilAligned(channel).finally(() => this.#aligning.delete(channel));
      this.#aligning.set(channel, aligning);
    }
    await aligning;
  }

  async #readUntilAligned(channel: string): Promise<void> {
    let again = true;
    while (again) {
      const alignment = this.#hub.beginAlignment(channel);
      if (!alignment) return;
      const { from, reaching } = alignment;
      const slice = await this.#read(channel, "align", {
        ...(from ? { after: from.offset, epoch: from.epoch, limit: alignLimit } : { limit: 0 }),
        ...(reaching && { reaching }),
        maxBytes: alignBytes,
      });
      again = this.#hub.align(alignment, slice);
      if (slice.keptForMs !== undefined) {
        this.#tails.keepUntil(channel, slice.position.offset, Date.now() + slice.keptForMs);
      }
    }
  }
}
