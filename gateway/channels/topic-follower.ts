import type { ChannelBroker, Topic } from "../../shared/channels/contract.ts";

/**
 * Follows at the broker exactly the topics that this node wants. Changes of one topic run one after the other.
 */
export class TopicFollower<Name extends string> {
  readonly #broker: ChannelBroker;
  readonly #topicOf: (name: Name) => Topic;
  readonly #wanted: (name: Name) => boolean;
  readonly #onFollowed: (name: Name) => Promise<void>;
  readonly #followed = new Set<Name>();
  readonly #changing = new Map<Name, Promise<void>>();

  /**
   * @param options.wanted read during {@link update}.
   * @param options.onFollowed runs before {@link update} resolves.
   */
  constructor(options: {
    broker: ChannelBroker;
    topicOf: (name: Name) => Topic;
    wanted: (name: Name) => boolean;
    onFollowed?: (name: Name) => Promise<void>;
  }) {
    this.#broker = options.broker;
    this.#topicOf = options.topicOf;
    this.#wanted = options.wanted;
    this.#onFollowed = options.onFollowed ?? (async () => undefined);
  }

  /** Resolves once the broker follows the topic, or has left it, as wanted. @throws TidegateError without a broker. */
  async update(name: Name): Promise<void> {
    // A change that has almost finished may have missed the last call.
    for (;;) {
      let change = this.#changing.get(name);
      if (!change) {
        if (this.#wanted(name) === this.#followed.has(name)) return;
        change = this.#change(name).finally(() => this.#changing.delete(name));
        this.#changing.set(name, change);
      }
      await change;
    }
  }

  async #change(name: Name): Promise<void> {
    const topic = this.#topicOf(name);
    while (this.#wanted(name) !== this.#followed.has(name)) {
      if (this.#followed.has(name)) {
        this.#followed.delete(name);
        await this.#broker.unfollow(topic);
      } else {
        await this.#broker.follow(topic);
        this.#followed.add(name);
        await this.#onFollowed(name);
      }
    }
  }
}
