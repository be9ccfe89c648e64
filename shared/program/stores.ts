/** Creates the stores of a process: on Redis, or in memory. */
import type { ChannelBroker } from "../channels/contract.ts";
import { MemoryBroker } from "../channels/memory.ts";
import { RedisBroker } from "../channels/redis.ts";
import { ContainedErrors } from "../runtime/contained-errors.ts";
import { MemoryDocumentStore } from "../documents/memory.ts";
import { RedisDocumentStore } from "../documents/redis.ts";
import type { DocumentStore } from "../documents/contract.ts";
import { Lifecycle, type Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import type { RedisTarget } from "../redis/target.ts";
import { Cells } from "../redis/cells.ts";
import { RedisConnections } from "../redis/connections.ts";
import type { DispatcherRegistry } from "../dispatchers/contract.ts";
import { MemoryDispatcherRegistry } from "../dispatchers/memory.ts";
import { RedisDispatcherRegistry } from "../dispatchers/redis.ts";
import { MemoryNodeRegistry } from "../nodes/memory.ts";
import { RedisNodeRegistry } from "../nodes/redis.ts";
import type { NodeRegistry } from "../nodes/contract.ts";
import type { QueueOperations, QueueStore } from "../queues/contract.ts";
import { MemoryQueueStore } from "../queues/memory.ts";
import { RedisQueueStore } from "../queues/redis.ts";
import { MemorySessionStore } from "../sessions/memory.ts";
import { RedisSessionStore } from "../sessions/redis.ts";
import type { SessionEventStore, SessionStore } from "../sessions/contract.ts";

export interface Stores extends Service {
  readonly broker: ChannelBroker;
  readonly rulesStore: DocumentStore;
  readonly rolloutsStore: DocumentStore;
  readonly sessionStore: SessionStore & SessionEventStore;
  readonly queues: QueueStore & QueueOperations;
  readonly nodeRegistry: NodeRegistry;
  readonly dispatcherRegistry: DispatcherRegistry;
  /** One per process: stores and program count their contained errors here. */
  readonly errors: ContainedErrors;
}

type StoresOnly = Omit<Stores, "errors" | keyof Service>;

/** @param target undefined: in memory, for a single process. */
export function createStores(target: RedisTarget | undefined, logger: Logger): Stores {
  const lifecycle = new Lifecycle(logger);
  const errors = new ContainedErrors(logger);
  const connections = target && new RedisConnections({ target, errors, logger });
  if (connections) lifecycle.add("Redis", connections);
  const stores = connections ? storesOnRedis(new Cells(connections), logger) : storesInMemory(errors);
  lifecycle.add("broker", stores.broker);
  lifecycle.add("rules store", stores.rulesStore);
  lifecycle.add("rollouts store", stores.rolloutsStore);
  lifecycle.add("session store", stores.sessionStore);
  lifecycle.add("queues", stores.queues);
  lifecycle.add("node registry", stores.nodeRegistry);
  lifecycle.add("dispatcher registry", stores.dispatcherRegistry);
  return { ...stores, errors, start: () => lifecycle.start(), stop: () => lifecycle.stop() };
}

function storesOnRedis(cells: Cells, logger: Logger): StoresOnly {
  return {
    broker: new RedisBroker({ cells, logger }),
    rulesStore: new RedisDocumentStore(cells, "rules"),
    rolloutsStore: new RedisDocumentStore(cells, "rollouts"),
    sessionStore: new RedisSessionStore(cells),
    queues: new RedisQueueStore(cells),
    nodeRegistry: new RedisNodeRegistry(cells),
    dispatcherRegistry: new RedisDispatcherRegistry(cells),
  };
}

function storesInMemory(errors: ContainedErrors): StoresOnly {
  const broker = new MemoryBroker(errors);
  return {
    broker,
    rulesStore: new MemoryDocumentStore(),
    rolloutsStore: new MemoryDocumentStore(),
    sessionStore: new MemorySessionStore(broker, errors),
    queues: new MemoryQueueStore(),
    nodeRegistry: new MemoryNodeRegistry(),
    dispatcherRegistry: new MemoryDispatcherRegistry(),
  };
}
