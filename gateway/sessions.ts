import type { ChannelBroker, UserMessage } from "../shared/channels/broker.ts";
import type { Logger } from "../shared/logging.ts";
import { userFrame } from "./frames.ts";
import type { Session } from "./session.ts";
import { TopicFollower } from "./topic-follower.ts";

/** The sessions of this node, by user. A user's own topic is followed while one of them is here. */
export class Sessions {
  readonly #byUser = new Map<string, Set<Session>>();
  readonly #topics: TopicFollower;
  readonly #logger: Logger;
  #count = 0;

  constructor(options: { broker: ChannelBroker; logger: Logger }) {
    this.#logger = options.logger;
    this.#topics = new TopicFollower({
      broker: options.broker,
      kind: "user",
      wanted: (user) => this.#byUser.has(user),
    });
  }

  get count(): number {
    return this.#count;
  }

  get all(): Session[] {
    return [...this.#byUser.values()].flatMap((sessions) => [...sessions]);
  }

  /** Resolves once messages to the user reach the session. Rejects, and forgets it, without a broker. */
  async add(session: Session): Promise<void> {
    const sessions = this.#byUser.get(session.user) ?? new Set();
    this.#byUser.set(session.user, sessions.add(session));
    this.#count++;
    try {
      await this.#topics.update(session.user);
    } catch (error) {
      this.remove(session);
      throw error;
    }
  }

  remove(session: Session): void {
    const sessions = this.#byUser.get(session.user);
    if (!sessions?.delete(session)) return;
    this.#count--;
    if (sessions.size > 0) return;
    this.#byUser.delete(session.user);
    this.#topics.update(session.user).catch((error: unknown) => {
      this.#logger.debug({ err: error }, "left a user's topic while the broker is away");
    });
  }

  onUserMessage(user: string, message: UserMessage): void {
    const sessions = [...(this.#byUser.get(user) ?? [])];
    if (message.kind === "send") {
      const frame = userFrame(message.event, message.data);
      for (const session of sessions) session.outbox.send(frame);
    } else {
      for (const session of sessions) session.end("disconnected", message.reason, { reconnect: message.reconnect });
    }
  }
}
