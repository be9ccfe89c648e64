import type { BrokerListener, Position } from "../../shared/channels/contract.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import { type CaughtUp, notFollowed } from "./catch-up.ts";
import { ChannelRepairs } from "./channel-repairs.ts";
import { type ChannelContext, FollowedChannel } from "./followed-channel.ts";
import type { Follower } from "./ordered-delivery.ts";
import { ResyncPacing } from "./resync-pacing.ts";
import type { Subscription } from "./subscription.ts";
import { TailBudget } from "./tail-budget.ts";
import { TopicFollower } from "./topic-follower.ts";

/** Between two comparisons of quiet channels with the broker; also keeps the state of a followed channel from expiring. */
const idleCheckMs = 5_000;
/** Channels that are compared in one round trip. */
const compareBatch = 500;

/** The channels with a follower on this node. The node follows them at the broker. */
export class FollowedChannels implements Service {
  readonly #context: ChannelContext;
  readonly #channels = new Map<string, FollowedChannel>();
  readonly #topics: TopicFollower<string>;
  #idleCheck: NodeJS.Timeout | undefined;

  constructor(options: Omit<ChannelContext, "tailBudget" | "resyncs" | "repairs" | "claimPauses">) {
    this.#context = {
      ...options,
      tailBudget: new TailBudget(),
      resyncs: new ResyncPacing(),
      repairs: new ChannelRepairs(options.logger),
      claimPauses: new Map(),
    };
    this.#topics = new TopicFollower({
      broker: options.broker,
      topicOf: (name) => ({ kind: "channel", name }),
      wanted: (name) => this.#channels.has(name),
      onFollowed: async (name) => void (await this.#aligned(name)),
    });
  }

  async start(): Promise<void> {
    this.#scheduleIdleCheck();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idleCheck);
    for (const channel of this.#channels.values()) channel.stop();
    this.#context.repairs.stop();
    this.#context.resyncs.stop();
  }

  get channelCount(): number {
    return this.#channels.size;
  }

  /** Names with the number of followers. Channels may come and go while it is read. */
  *followerCounts(): Iterable<readonly [name: string, followers: number]> {
    for (const [name, { followerCount }] of this.#channels) yield [name, followerCount];
  }

  get tailBytes(): number {
    return this.#context.tailBudget.bytes;
  }

  /**
   * Resolves once the follower gets everything that is published from now on.
   * @throws TidegateError without a broker: the follower has left again.
   */
  async join(name: string, follower: Follower): Promise<void> {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = new FollowedChannel(name, this.#context);
      this.#channels.set(name, channel);
    }
    channel.add(follower);
    try {
      await this.#topics.update(name);
    } catch (error) {
      this.leave(name, follower);
      throw error;
    }
  }

  leave(name: string, follower: Follower): void {
    this.#context.resyncs.remove(follower);
    const channel = this.#channels.get(name);
    if (!channel) return;
    channel.remove(follower);
    if (channel.isFollowed) return;
    this.#channels.delete(name);
    this.#topics.update(name).catch((error: unknown) => {
      this.#context.logger.debug({ err: error, channel: name }, "a channel could not be left: the broker is away");
    });
  }

  /** Where live deliveries stand. @throws TidegateError where the channel has no follower left, or without a broker. */
  async position(name: string): Promise<Position> {
    const position = await this.#aligned(name);
    if (!position) throw notFollowed();
    return position;
  }

  /** What a follower missed since `from`, or why history cannot tell. @throws TidegateError as {@link position}. */
  async catchUp(name: string, from: Position): Promise<CaughtUp> {
    const channel = this.#channels.get(name);
    if (!channel) throw notFollowed();
    return channel.catchUp(from);
  }

  /** The ack of a subscription is sent: deliveries continue after `position`. */
  goLive(subscription: Subscription, position: Position): void {
    if (subscription.goLive(position)) return;
    const channel = this.#channels.get(subscription.channel);
    if (channel) this.#context.resyncs.add(channel, [subscription]);
  }

  readonly listener: Omit<BrokerListener, "onUserMessage"> = {
    onPublication: (name, epoch, publication) => this.#channels.get(name)?.receive(epoch, publication),
    onEphemeral: (name, ephemeral) => this.#channels.get(name)?.receiveEphemeral(ephemeral),
    onRestored: () => void this.#compareAll(),
  };

  /** As {@link position}; undefined without a follower. Covers a channel that is left and joined again meanwhile. */
  async #aligned(name: string): Promise<Position | undefined> {
    for (;;) {
      const channel = this.#channels.get(name);
      if (!channel) return undefined;
      const position = await channel.aligned();
      if (position) return position;
    }
  }

  /** Positions first, many in one round trip: only the history of channels that have moved is read. */
  async #compareAll(): Promise<void> {
    const channels = [...this.#channels.values()];
    for (const channel of channels) channel.misalign();
    const moved: FollowedChannel[] = [];
    for (let at = 0; at < channels.length; at += compareBatch) {
      const batch = channels.slice(at, at + compareBatch);
      const unmoved = await Promise.all(batch.map((channel) => channel.confirm()));
      moved.push(...batch.filter((_, i) => !unmoved[i]));
    }
    for (const channel of moved) this.#context.repairs.add(channel);
  }

  /** At a random moment, so that nodes do not ask together. */
  #scheduleIdleCheck(): void {
    this.#idleCheck = setTimeout(() => {
      void this.#compareQuiet().finally(() => this.#scheduleIdleCheck());
    }, jittered(idleCheckMs));
    this.#idleCheck.unref();
  }

  async #compareQuiet(): Promise<void> {
    const { claimPauses } = this.#context;
    const now = performance.now();
    for (const [name, until] of claimPauses) if (until <= now) claimPauses.delete(name);
    const quiet = [...this.#channels.values()].filter((channel) => channel.isQuiet());
    for (let at = 0; at < quiet.length; at += compareBatch) {
      await Promise.all(quiet.slice(at, at + compareBatch).map((channel) => channel.compare()));
    }
  }
}
