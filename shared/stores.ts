/** Where channels and rules are kept: on Redis, or in this process. */
import type { ChannelBroker } from "./channels/broker.ts";
import { MemoryBroker } from "./channels/memory-broker.ts";
import { RedisBroker } from "./channels/redis-broker.ts";
import { Lifecycle, type Service } from "./lifecycle.ts";
import type { Logger } from "./logging.ts";
import type { RedisTarget } from "./redis/connect.ts";
import { RedisConnections } from "./redis/connections.ts";
import { MemoryRulesStore } from "./rules/memory-store.ts";
import { RedisRulesStore } from "./rules/redis-store.ts";
import type { RulesStore } from "./rules/store.ts";

export interface Stores extends Service {
  readonly broker: ChannelBroker;
  readonly rulesStore: RulesStore;
}

/** @param target undefined: in memory, for a single process. */
export function createStores(target: RedisTarget | undefined, logger: Logger): Stores {
  const lifecycle = new Lifecycle(logger);
  let broker: ChannelBroker;
  let rulesStore: RulesStore;
  if (target) {
    const connections = new RedisConnections({ target, logger });
    broker = new RedisBroker({ cells: [connections], logger });
    rulesStore = new RedisRulesStore(connections);
    lifecycle.add("Redis", connections);
  } else {
    broker = new MemoryBroker();
    rulesStore = new MemoryRulesStore();
  }
  lifecycle.add("broker", broker);
  lifecycle.add("rules store", rulesStore);
  return { broker, rulesStore, start: () => lifecycle.start(), stop: () => lifecycle.stop() };
}
