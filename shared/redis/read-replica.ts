import type { Redis } from "ioredis";
import type { Logger } from "../runtime/logging.ts";
import { RedisCommands } from "./commands.ts";
import { connect, RedisServers, type RedisTarget } from "./connect.ts";

/** Between two attempts to go back to a replica that was found silent. */
const returnMs = 30_000;

/** A replica that takes subscriptions and reads of history off the primary. It decides nothing. */
export class ReadReplica {
  readonly #servers: RedisServers;
  readonly #commands: RedisCommands;
  readonly #trusted: () => boolean;
  #returnAt = performance.now() + returnMs;

  /** @param options.trusted what is published at the primary arrives here. */
  constructor(options: { target: RedisTarget; trusted: () => boolean; logger: Logger }) {
    const { target, logger } = options;
    this.#servers = new RedisServers({ target, replicas: "accepted", logger });
    this.#trusted = options.trusted;
    this.#commands = new RedisCommands(this.#servers.openClient());
  }

  /** For scripts to be defined; asked through {@link run}. */
  get client(): RedisCommands["client"] {
    return this.#commands.client;
  }

  /** Worth asking now. */
  get usable(): boolean {
    return this.client.status === "ready" && this.#commands.answering && this.#trusted();
  }

  async start(waitMs: number): Promise<void> {
    await connect(this.client, waitMs);
  }

  stop(): void {
    this.#commands.stop();
  }

  /** @throws TidegateError where it is away, or refuses as a replica may that lost its primary. */
  async run<Reply>(name: string, ...keysAndArguments: (string | number)[]): Promise<Reply> {
    return this.#commands.run(name, ...keysAndArguments);
  }

  createSubscriber(): Redis {
    return this.#servers.openSubscriber(this.client, "");
  }

  /** True once in a while: another attempt costs an interruption. */
  dueToReturn(): boolean {
    const now = performance.now();
    if (now < this.#returnAt) return false;
    this.#returnAt = now + returnMs * (1 + Math.random());
    return this.client.status === "ready" && this.#commands.answering;
  }
}
