import type {
  BrokerListener,
  ChannelBroker,
  Ephemeral,
  HistoryQuery,
  HistorySlice,
  Position,
  Publication,
} from "../shared/channels/broker.ts";
import { TidegateError } from "../shared/errors.ts";
import type { Service } from "../shared/lifecycle.ts";
import type { Logger } from "../shared/logging.ts";
import type { CurrentRules } from "../shared/rules/current-rules.ts";
import { type Follower, Hub } from "./hub.ts";
import { TopicFollower } from "./topic-follower.ts";

/** One read towards alignment. */
const alignLimit = 1_000;
const alignBytes = 1024 * 1024;
/** Channels whose position is compared at the same time, after an interruption. */
const alignConcurrency = 32;
const repairRetryMs = 500;

/** Between two comparisons of what is quiet; also what keeps the state of a followed channel from expiring. */
const idleCheckMs = 5_000;
/** Channels that are compared in one round trip. */
const idleCheckBatch = 500;

/** The hub and the broker together: channels with local followers are followed, gaps are read from history. */
export class FollowedChannels implements Service {
  readonly #hub: Hub;
  readonly #broker: ChannelBroker;
  readonly #rules: CurrentRules;
  readonly #logger: Logger;
  readonly #topics: TopicFollower;
  readonly #aligning = new Map<string, Promise<void>>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  /** Where each channel stood at the last comparison. */
  #offsetsThen = new Map<string, number>();
  #idleCheck: NodeJS.Timeout | undefined;

  constructor(options: {
    broker: ChannelBroker;
    rules: CurrentRules;
    logger: Logger;
    /** After each publication, with the number of followers that got it. */
    onDelivered: (followers: number) => void;
  }) {
    this.#hub = new Hub(options.onDelivered);
    this.#broker = options.broker;
    this.#rules = options.rules;
    this.#logger = options.logger;
    this.#topics = new TopicFollower({
      broker: options.broker,
      kind: "channel",
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
  }

  get channelCount(): number {
    return this.#hub.channelCount;
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
    if (this.#hub.has(channel)) return;
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

  async readHistory(channel: string, query: Omit<HistoryQuery, "channel" | "retention">): Promise<HistorySlice> {
    return this.#broker.readHistory({ channel, retention: this.#rules.rules.namespace(channel), ...query });
  }

  readonly listener: Omit<BrokerListener, "onUserMessage"> = {
    onPublication: (channel: string, epoch: string, publication: Publication) => {
      if (this.#hub.receive(channel, epoch, publication)) void this.#repair(channel);
    },
    onEphemeral: (channel: string, ephemeral: Ephemeral) => this.#hub.receiveEphemeral(channel, ephemeral),
    onInterrupted: () => undefined,
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

  async #compareAll(): Promise<void> {
    const channels = [...this.#hub.channels()];
    for (const channel of channels) this.#hub.misalign(channel);
    for (let at = 0; at < channels.length; at += alignConcurrency) {
      await Promise.all(channels.slice(at, at + alignConcurrency).map((channel) => this.#repair(channel)));
    }
  }

  /** At a moment of its own, so that nodes do not ask together. */
  #scheduleIdleCheck(): void {
    this.#idleCheck = setTimeout(
      () => {
        this.#compareIdle()
          .catch((error: unknown) => this.#logger.debug({ err: error }, "quiet channels could not be compared"))
          .finally(() => this.#scheduleIdleCheck());
      },
      idleCheckMs * (0.75 + Math.random() / 2),
    );
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
    for (let at = 0; at < quiet.length; at += idleCheckBatch) {
      await Promise.all(quiet.slice(at, at + idleCheckBatch).map((channel) => this.#compare(channel)));
    }
  }

  async #compare(channel: string): Promise<void> {
    const { position } = await this.readHistory(channel, { limit: 0, maxBytes: 0 });
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
      const { from } = alignment;
      const slice = await this.readHistory(channel, {
        ...(from ? { after: from.offset, epoch: from.epoch, limit: alignLimit } : { limit: 0 }),
        maxBytes: alignBytes,
      });
      again = this.#hub.align(alignment, slice);
    }
  }
}
