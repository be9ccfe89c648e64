import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import type { StoreState } from "../runtime/store-state.ts";
import { withDeadline } from "../runtime/timing.ts";
import { parseNamedPrimary } from "./address.ts";
import {
  type Argument,
  clusterNode,
  connect,
  primariesOf,
  primaryOf,
  reconnectNow,
  type RedisClient,
  rootError,
  send,
} from "./client.ts";
import { RedisCommands } from "./commands.ts";
import { KeyChanges } from "./key-changes.ts";
import { ReadReplica } from "./read-replica.ts";
import { refusalOf } from "./refusals.ts";
import { defineFencedScripts, type Script, script } from "./scripts.ts";
import { Sentinels } from "./sentinels.ts";
import { openSentinels, RedisServers } from "./servers.ts";
import { Subscriptions } from "./subscriptions.ts";
import { type RedisTarget, rootOf } from "./target.ts";
import { brokerUnavailable, orBrokerUnavailable } from "./unavailable.ts";

/** Longest wait for Redis at the start. After it the process starts without Redis and is not ready. */
const startWaitMs = 5_000;
const heartbeatMs = 2_000;
const probe = script(new URL("probe.lua", import.meta.url), 1);

/**
 * Everything that one process has open to one Redis: a connection for commands and one for subscriptions; in a cluster one
 * of each per primary. Every heartbeat probes the subscriptions.
 *
 * Topics are sharded pub/sub channels named `<root>:{<hash tag>}:…`, as in `tidegate:{17}:channel:board:42`.
 */
export class RedisConnections implements Service {
  /** Begins the names of all keys and topics; a colon and a hash tag follow. */
  readonly root: string;
  /** Serves reads of history; undefined where none is configured. */
  readonly replica: ReadReplica | undefined;
  readonly topics: Subscriptions;
  /** One script may use keys of several slots. */
  readonly spansSlots: boolean;
  readonly #commands: RedisCommands;
  readonly #servers: RedisServers;
  readonly #errors: ContainedErrors;
  readonly #sentinels: Sentinels | undefined;
  readonly #logger: Logger;
  #heartbeat: NodeJS.Timeout | undefined;
  /** The state and reason that were logged last. */
  #logged = "";
  /** First error of the last failed attempt to connect for commands. */
  #lastError: Error | undefined;
  #attemptFailed = false;

  constructor(options: { target: RedisTarget; errors: ContainedErrors; logger: Logger }) {
    const { target, errors, logger } = options;
    this.root = rootOf(target);
    this.#errors = errors;
    this.#logger = logger;
    if (target.kind === "sentinel") {
      this.#sentinels = new Sentinels({
        name: parseNamedPrimary(target.master).name,
        clients: openSentinels(target, logger),
        searching: () => this.state !== "ok",
        onMoved: () => {
          reconnectNow(this.#client);
          this.topics.followPrimary();
        },
        errors,
        logger,
      });
    }
    const servers = new RedisServers({ target, logger, ...(this.#sentinels && { source: this.#sentinels }) });
    this.#servers = servers;
    this.#commands = new RedisCommands(servers.openClient(), () => this.topics.followPrimary());
    if (target.kind !== "cluster" && target.readUrl !== undefined) {
      this.replica = new ReadReplica({
        target: { kind: "standalone", url: target.readUrl, ...(target.tls && { tls: target.tls }) },
        // A replica that passes no messages on may have lost its primary.
        trusted: () => this.topics.atReplica && this.state === "ok",
        logger,
      });
    }
    this.spansSlots = target.kind !== "cluster";
    this.topics = new Subscriptions({
      commands: this.#client,
      isCluster: target.kind === "cluster",
      root: this.root,
      replica: this.replica,
      openSubscriber: (primary) => servers.openSubscriber(this.#client, primary),
      probeSender: {
        write: (topic, message) => this.run(probe, topic, topic, message),
        publish: (topic, message) => this.run("spublish", topic, message),
      },
      logger,
    });
  }

  get #client(): RedisClient {
    return this.#commands.client;
  }

  /** Number of commands without an answer. */
  get pendingCommands(): number {
    return this.#commands.pending;
  }

  get state(): StoreState {
    if (this.#client.status !== "ready" || !this.#commands.answering) return "away";
    return this.topics.state;
  }

  /** Scripts behind the fence of a cell can be run from now on. Call it before anything is run. */
  enableFence(): void {
    defineFencedScripts(this.#client);
  }

  /** The servers that own keys, by names for {@link runAt}: one, in a cluster each primary. @throws TidegateError `broker_unavailable` */
  get primaries(): readonly string[] {
    const known = primariesOf(this.#client);
    if (known.length === 0) throw brokerUnavailable("no primary of the cluster is known");
    return known;
  }

  /**
   * One for each server that owns some of the keys. The caller starts and stops them.
   * @param prefixes of names, each with its hash tag; none begins with another.
   * @throws TidegateError `broker_unavailable`
   */
  changesOf(prefixes: readonly string[]): readonly KeyChanges[] {
    const byPrimary = Map.groupBy(prefixes, (prefix) => primaryOf(this.#client, prefix));
    if (!this.spansSlots && byPrimary.has("")) throw brokerUnavailable("a primary of the cluster is not known");
    return [...byPrimary].map(([primary, own]) => {
      return new KeyChanges({ open: () => this.#servers.openSubscriber(this.#client, primary), prefixes: own });
    });
  }

  /** As {@link run}, at one of {@link primaries}: for a command without a key. */
  async runAt<Reply>(primary: string, command: string, ...values: Argument[]): Promise<Reply> {
    if (this.spansSlots) return this.run(command, ...values);
    const node = clusterNode(this.#client, primary);
    if (!node) throw brokerUnavailable("a primary of the cluster cannot be reached");
    return (await orBrokerUnavailable(send(node, command, values))) as Reply;
  }

  /** @see RedisCommands.run */
  async run<Reply>(command: string | Script<Reply>, ...keysAndArguments: Argument[]): Promise<Reply> {
    return this.#commands.run(command, ...keysAndArguments);
  }

  async start(): Promise<void> {
    this.#client.on(
      "refresh",
      this.#errors.guarded("store", () => this.topics.relocate()),
    );
    this.#client.on("connecting", () => (this.#attemptFailed = false));
    this.#client.on("error", (error: Error) => {
      if (!this.#attemptFailed) this.#lastError = rootError(error);
      this.#attemptFailed = true;
    });
    this.#client.on(
      "ready",
      this.#errors.guarded("store", () => {
        this.#lastError = undefined;
        this.#checkAll();
      }),
    );
    const deadline = performance.now() + startWaitMs;
    await this.#sentinels?.start();
    await Promise.all([connect(this.#client, startWaitMs), this.replica?.start(startWaitMs)]);
    this.topics.relocate();
    this.#heartbeat = this.#errors.every(heartbeatMs, () => this.#checkAll());
    await withDeadline(this.topics.restored, deadline - performance.now(), () => undefined);
    this.#logState();
  }

  async stop(): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#client.removeAllListeners("refresh");
    await this.#sentinels?.stop();
    this.topics.stop();
    this.replica?.stop();
    this.#commands.stop();
  }

  #checkAll(): void {
    this.topics.check(
      (work) => this.#errors.contain("store", work),
      () => this.#logState(),
    );
    this.#logState();
  }

  #logState(): void {
    const { state } = this;
    const reason = state === "ok" ? "" : this.#reason(state);
    if (`${state} ${reason}` === this.#logged) return;
    this.#logged = `${state} ${reason}`;
    if (state === "ok") this.#logger.info("redis takes writes and delivers messages");
    else this.#logger.warn({ state, reason }, "redis is not fully usable");
  }

  #reason(state: StoreState): string {
    if (state === "deaf") return "published messages do not arrive";
    // A server that loads its data is asked until it has: the client reports no error meanwhile.
    if (this.#client.status === "connect") return "the server is loading its data, or has not answered yet";
    const refusal = this.topics.refusal ?? refusalOf(this.#lastError);
    return refusal?.reason ?? this.#lastError?.message ?? "it does not answer";
  }
}
