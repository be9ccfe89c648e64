/** Where channels, sessions, rules, rollouts and nodes are kept: on Redis, or in this process. */
import type { ChannelBroker } from "../channels/contract.ts";
import { MemoryBroker } from "../channels/memory.ts";
import { RedisBroker } from "../channels/redis.ts";
import { ContainedErrors } from "../runtime/contained-errors.ts";
import { MemoryDocumentStore } from "../documents/memory.ts";
import { RedisDocumentStore } from "../documents/redis.ts";
import type { DocumentStore } from "../documents/contract.ts";
import { Lifecycle, type Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import type { RedisTarget } from "../redis/connect.ts";
import { RedisConnections } from "../redis/connections.ts";
import { MemoryNodeRegistry } from "../nodes/memory.ts";
import { RedisNodeRegistry } from "../nodes/redis.ts";
import type { NodeRegistry } from "../nodes/contract.ts";
import { MemorySessionStore } from "../sessions/memory.ts";
import { RedisSessionStore } from "../sessions/redis.ts";
import type { SessionStore } from "../sessions/contract.ts";

export interface Stores extends Service {
  readonly broker: ChannelBroker;
  readonly rulesStore: DocumentStore;
  readonly rolloutsStore: DocumentStore;
  readonly sessionStore: SessionStore;
  readonly nodeRegistry: NodeRegistry;
  /** Of the process: the program that uses the stores counts here what it contains, too. */
  readonly errors: ContainedErrors;
}

/** @param target undefined: in memory, for a single process. */
export function createStores(target: RedisTarget | undefined, logger: Logger): Stores {
  const lifecycle = new Lifecycle(logger);
  const errors = new ContainedErrors(logger);
  let broker: ChannelBroker;
  let rulesStore: DocumentStore;
  let rolloutsStore: DocumentStore;
  let sessionStore: SessionStore;
  let nodeRegistry: NodeRegistry;
  if (target) {
    const connections = new RedisConnections({ target, errors, logger });
    broker = new RedisBroker({ cells: [connections], logger });
    rulesStore = new RedisDocumentStore(connections, "rules");
    rolloutsStore = new RedisDocumentStore(connections, "rollouts");
    sessionStore = new RedisSessionStore([connections]);
    nodeRegistry = new RedisNodeRegistry(connections);
    lifecycle.add("Redis", connections);
  } else {
    broker = new MemoryBroker(errors);
    rulesStore = new MemoryDocumentStore();
    rolloutsStore = new MemoryDocumentStore();
    sessionStore = new MemorySessionStore(broker, errors);
    nodeRegistry = new MemoryNodeRegistry();
  }
  lifecycle.add("broker", broker);
  lifecycle.add("rules store", rulesStore);
  lifecycle.add("rollouts store", rolloutsStore);
  lifecycle.add("session store", sessionStore);
  lifecycle.add("node registry", nodeRegistry);
  return {
    broker,
    rulesStore,
    rolloutsStore,
    sessionStore,
    nodeRegistry,
    errors,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
  };
}
