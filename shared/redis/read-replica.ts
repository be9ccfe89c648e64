import type { Redis } from "ioredis";
import type { Logger } from "../runtime/logging.ts";
import { type Argument, connect } from "./client.ts";
import { RedisCommands } from "./commands.ts";
import type { Script } from "./scripts.ts";
import { RedisServers } from "./servers.ts";
import type { RedisTarget } from "./target.ts";

/** Shortest time between two attempts to return to a replica that was silent. */
const returnMs = 30_000;

/** A replica that serves subscriptions and reads of history in place of the primary. Decisions stay with the primary. */
export class ReadReplica {
  readonly #servers: RedisServers;
  readonly #commands: RedisCommands;
  readonly #trusted: () => boolean;
  #returnAt = performance.now() + returnMs;

  /** @param options.trusted whether messages from the primary arrive here. */
  constructor(options: { target: RedisTarget; trusted: () => boolean; logger: Logger }) {
    const { target, logger } = options;
    this.#servers = new RedisServers({ target, replicas: "accepted", logger });
    this.#trusted = options.trusted;
    this.#commands = new RedisCommands(this.#servers.openClient());
  }

  get isReady(): boolean {
    return this.#commands.client.status === "ready";
  }

  /** Fit to read from now. */
  get usable(): boolean {
    return this.isReady && this.#commands.answering && this.#trusted();
  }

  async start(waitMs: number): Promise<void> {
    await connect(this.#commands.client, waitMs);
  }

  stop(): void {
    this.#commands.stop();
  }

  /** @throws TidegateError where the replica is away or refuses, e.g. because it lost its primary. */
  async run<Reply>(script: Script<Reply>, ...keysAndArguments: Argument[]): Promise<Reply> {
    return this.#commands.run(script, ...keysAndArguments);
  }

  createSubscriber(): Redis {
    return this.#servers.openSubscriber(this.#commands.client, "");
  }

  /** True at most once in {@link returnMs}: each attempt costs an interruption. */
  dueToReturn(): boolean {
    const now = performance.now();
    if (now < this.#returnAt) return false;
    this.#returnAt = now + returnMs * (1 + Math.random());
    return this.isReady && this.#commands.answering;
  }
}
