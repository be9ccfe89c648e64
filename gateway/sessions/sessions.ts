import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { IdentityKey } from "../../shared/protocol/identity-key.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { Session } from "./session.ts";
import { TopicFollower } from "../channels/topic-follower.ts";

/** The sessions of this node, by user. The node follows a user's topic while the user has a session here. */
export class Sessions {
  readonly #byUser = new Map<IdentityKey, Set<Session>>();
  readonly #topics: TopicFollower<IdentityKey>;
  readonly #logger: Logger;
  #count = 0;

  constructor(options: { broker: ChannelBroker; logger: Logger }) {
    this.#logger = options.logger;
    this.#topics = new TopicFollower({
      broker: options.broker,
      topicOf: (user) => ({ kind: "user", name: user }),
      wanted: (user) => this.#byUser.has(user),
    });
  }

  get count(): number {
    return this.#count;
  }

  get all(): Session[] {
    return [...this.#byUser.values()].flatMap((sessions) => [...sessions]);
  }

  /** Users and sessions may come and go while it is read. */
  get byUser(): ReadonlyMap<IdentityKey, ReadonlySet<Session>> {
    return this.#byUser;
  }

  /** Resolves once messages to the user reach the session. @throws TidegateError without a broker: see {@link onRestored}. */
  async add(session: Session): Promise<void> {
    const sessions = this.#byUser.get(session.identityKey) ?? new Set();
    this.#byUser.set(session.identityKey, sessions.add(session));
    this.#count++;
    await this.follow(session);
  }

  /** As {@link add}, for a session that was added without a broker. */
  async follow(session: Session): Promise<void> {
    await this.#topics.update(session.identityKey);
  }

  remove(session: Session): void {
    const sessions = this.#byUser.get(session.identityKey);
    if (!sessions?.delete(session)) return;
    this.#count--;
    if (sessions.size > 0) return;
    this.#byUser.delete(session.identityKey);
    this.#topics.update(session.identityKey).catch((error: unknown) => {
      this.#logger.debug({ err: error }, "a user's topic could not be left: the broker is away");
    });
  }

  ofUser(user: IdentityKey): Session[] {
    return [...(this.#byUser.get(user) ?? [])];
  }

  /** A connection, on any node, has claimed the user's session: notifies every connection that this node has of it. */
  noticeClaim(user: IdentityKey, { sessionId, claim }: { sessionId: string; claim: number }): void {
    for (const session of this.ofUser(user)) if (session.id === sessionId) session.succession.noticeClaim(claim);
  }

  /** Follows the topics of users that connected while the broker was away. */
  onRestored(): void {
    for (const user of this.#byUser.keys()) {
      this.#topics.update(user).catch((error: unknown) => {
        this.#logger.debug({ err: error }, "a user's topic could not be followed yet");
      });
    }
  }
}
