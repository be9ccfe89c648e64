/** Creates the stores of a process: on Redis, or in memory. */
import type { ChangeLog } from "../changes/contract.ts";
import { MemoryChangeLog } from "../changes/memory.ts";
import { RedisChangeLog } from "../changes/redis.ts";
import type { ChannelBroker } from "../channels/contract.ts";
import { MemoryBroker } from "../channels/memory.ts";
import { RedisBroker } from "../channels/redis.ts";
import { ContainedErrors } from "../runtime/contained-errors.ts";
import { MemoryDocumentStore } from "../documents/memory.ts";
import { RedisDocumentStore } from "../documents/redis.ts";
import type { DocumentStore } from "../documents/contract.ts";
import { Lifecycle, type Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { type CellTargets, onlyCell, type RedisTarget } from "../redis/target.ts";
import { Cells } from "../redis/cells.ts";
import { RedisConnections } from "../redis/connections.ts";
import type { CellMaps } from "../cells/contract.ts";
import { MemoryCellMaps } from "../cells/memory.ts";
import { RedisCellMaps } from "../cells/redis.ts";
import type { DispatcherRegistry } from "../dispatchers/contract.ts";
import { MemoryDispatcherRegistry } from "../dispatchers/memory.ts";
import { RedisDispatcherRegistry } from "../dispatchers/redis.ts";
import type { AttemptLog, EndpointStore } from "../endpoints/contract.ts";
import { MemoryAttemptLog } from "../endpoints/memory-attempts.ts";
import { MemoryEndpointStore } from "../endpoints/memory.ts";
import { RedisAttemptLog } from "../endpoints/redis-attempts.ts";
import { RedisEndpointStore } from "../endpoints/redis.ts";
import type { Inventory } from "../inventory/contract.ts";
import { MemoryInventory } from "../inventory/memory.ts";
import { RedisInventory } from "../inventory/redis.ts";
import { MemoryNodeRegistry } from "../nodes/memory.ts";
import { RedisNodeRegistry } from "../nodes/redis.ts";
import type { NodeRegistry } from "../nodes/contract.ts";
import type { QueueOperations, QueueStore } from "../queues/contract.ts";
import { MemoryQueueStore } from "../queues/memory.ts";
import { RedisQueueStore } from "../queues/redis.ts";
import { MemorySessionStore } from "../sessions/memory.ts";
import { RedisSessionStore } from "../sessions/redis.ts";
import type { SessionEventStore, SessionStore } from "../sessions/contract.ts";
import type { SqlShardStore } from "../sql-sources/contract.ts";
import { MemorySqlShardStore } from "../sql-sources/memory.ts";
import { RedisSqlShardStore } from "../sql-sources/redis.ts";

export interface Stores extends Service {
  readonly broker: ChannelBroker;
  readonly rulesStore: DocumentStore;
  readonly rolloutsStore: DocumentStore;
  readonly sessionStore: SessionStore & SessionEventStore;
  readonly queues: QueueStore & QueueOperations;
  readonly changeLog: ChangeLog;
  readonly endpointStore: EndpointStore;
  readonly attemptLog: AttemptLog;
  readonly sqlShards: SqlShardStore;
  readonly nodeRegistry: NodeRegistry;
  readonly inventory: Inventory;
  readonly dispatcherRegistry: DispatcherRegistry;
  readonly cellMaps: CellMaps;
  /** Undefined in memory. */
  readonly cells: Cells | undefined;
  /** One per process: stores and program count their contained errors here. */
  readonly errors: ContainedErrors;
}

/** Stores that their owner starts and stops. */
export type OpenStores = Omit<Stores, keyof Service>;

/** @param given one Redis, or several cells; undefined: in memory, for a single process. */
export function createStores(given: RedisTarget | CellTargets | undefined, logger: Logger): Stores {
  const lifecycle = new Lifecycle(logger);
  const errors = new ContainedErrors(logger);
  const cells =
    given && openCells(given instanceof Map ? given : new Map([[onlyCell, given as RedisTarget]]), { errors, logger });
  for (const [name, connections] of cells?.all ?? []) lifecycle.add(`Redis of cell ${name}`, connections);
  if (cells) lifecycle.add("cells", cells);
  const stores = cells ? storesOnRedis(cells, { lifecycle, errors, logger }) : storesInMemory(errors);
  // First, so that the map is known to the others.
  lifecycle.add("map of cells", stores.cellMaps);
  lifecycle.add("broker", stores.broker);
  lifecycle.add("rules store", stores.rulesStore);
  lifecycle.add("rollouts store", stores.rolloutsStore);
  lifecycle.add("session store", stores.sessionStore);
  lifecycle.add("queues", stores.queues);
  lifecycle.add("change log", stores.changeLog);
  lifecycle.add("endpoint store", stores.endpointStore);
  lifecycle.add("attempt log", stores.attemptLog);
  lifecycle.add("inventory", stores.inventory);
  return { ...stores, errors, start: () => lifecycle.start(), stop: () => lifecycle.stop() };
}

function openCells(targets: CellTargets, options: { errors: ContainedErrors; logger: Logger }): Cells {
  const { logger } = options;
  const opened = [...targets].map(([name, target]) => {
    const ofCell = targets.size === 1 ? logger : logger.child({ cell: name });
    return [name, new RedisConnections({ ...options, target, logger: ofCell })] as const;
  });
  return new Cells(new Map(opened), logger);
}

function storesOnRedis(
  cells: Cells,
  { lifecycle, errors, logger }: { lifecycle: Lifecycle; errors: ContainedErrors; logger: Logger },
): Omit<OpenStores, "errors"> {
  const mapStore = new RedisDocumentStore(cells, "cells");
  lifecycle.add("store of the map of cells", mapStore);
  return {
    cells,
    cellMaps: new RedisCellMaps({ cells, store: mapStore, errors, logger }),
    broker: new RedisBroker({ cells, logger }),
    rulesStore: new RedisDocumentStore(cells, "rules"),
    rolloutsStore: new RedisDocumentStore(cells, "rollouts"),
    sessionStore: new RedisSessionStore(cells),
    queues: new RedisQueueStore(cells),
    changeLog: new RedisChangeLog(cells),
    endpointStore: new RedisEndpointStore(cells),
    attemptLog: new RedisAttemptLog(cells),
    sqlShards: new RedisSqlShardStore(cells),
    nodeRegistry: new RedisNodeRegistry(cells),
    inventory: new RedisInventory(cells, logger),
    dispatcherRegistry: new RedisDispatcherRegistry(cells),
  };
}

function storesInMemory(errors: ContainedErrors): Omit<OpenStores, "errors"> {
  const changeLog = new MemoryChangeLog();
  const broker = new MemoryBroker(errors, changeLog);
  return {
    cells: undefined,
    cellMaps: new MemoryCellMaps(),
    broker,
    rulesStore: new MemoryDocumentStore(),
    rolloutsStore: new MemoryDocumentStore(),
    sessionStore: new MemorySessionStore(broker, errors),
    queues: new MemoryQueueStore(),
    changeLog,
    endpointStore: new MemoryEndpointStore(),
    attemptLog: new MemoryAttemptLog(),
    sqlShards: new MemorySqlShardStore(),
    nodeRegistry: new MemoryNodeRegistry(),
    inventory: new MemoryInventory(),
    dispatcherRegistry: new MemoryDispatcherRegistry(),
  };
}
