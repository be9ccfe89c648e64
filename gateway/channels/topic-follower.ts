import type { ChannelBroker, Topic } from "../../shared/channels/contract.ts";

interface TopicFollowerOptions<Name> {
  broker: ChannelBroker;
  topicOf: (name: Name) => Topic;
  /** Read during {@link update}. */
  wanted: (name: Name) => boolean;
  /** Runs before {@link update} resolves. */
  onFollowed?: (name: Name) => Promise<void>;
}

/**
 * Follows at the broker exactly the topics that this node wants. Changes of one topic run one after the other.
 */
export class TopicFollower<Name extends string> {
  readonly #options: TopicFollowerOptions<Name>;
  readonly #followed = new Set<Name>();
  readonly #changing = new Map<Name, Promise<void>>();

  constructor(options: TopicFollowerOptions<Name>) {
    this.#options = options;
  }

  /** Resolves once the broker follows the topic, or has left it, as wanted. @throws TidegateError without a broker. */
  async update(name: Name): Promise<void> {
    // A change that has almost finished may have missed the last call.
    for (;;) {
      let change = this.#changing.get(name);
      if (!change) {
        if (this.#options.wanted(name) === this.#followed.has(name)) return;
        change = this.#change(name).finally(() => this.#changing.delete(name));
        this.#changing.set(name, change);
      }
      await change;
    }
  }

  async #change(name: Name): Promise<void> {
    const topic = this.#options.topicOf(name);
    while (this.#options.wanted(name) !== this.#followed.has(name)) {
      if (this.#followed.has(name)) {
        this.#followed.delete(name);
        await this.#options.broker.unfollow(topic);
      } else {
        await this.#options.broker.follow(topic);
        this.#followed.add(name);
        await this.#options.onFollowed?.(name);
      }
    }
  }
}
