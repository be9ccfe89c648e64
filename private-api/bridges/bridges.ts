/** The bridges of the rules to old Socket.IO fleets: this process runs its share of them, each under a lease. */
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { RedisServers } from "../../shared/redis/servers.ts";
import { redisVariable } from "../../shared/rules/bridges.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { ChangePulls } from "../changes/change-pulls.ts";
import { LeasedReaders, type PublishingReaderResources, type ReaderTerms } from "../leases/leased-readers.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { Bridge } from "./bridge.ts";
import { type BridgeItem, bridgesOf, isSameBridge } from "./bridge-items.ts";
import type { BridgeStatus } from "./bridge-status.ts";

/** A bridge that was given up is taken this soon: until then emits of the old fleet are lost. */
const renewMs = 500;

export interface BridgesOptions extends PublishingReaderResources {
  broker: Pick<ChannelBroker, "publish" | "publishEphemeral">;
  pulls: ChangePulls;
  metrics: Pick<PrivateApiMetrics, "bridgeMessages" | "unlistedNamespaces">;
}

export class Bridges implements Service {
  readonly #options: BridgesOptions;
  readonly #readers: LeasedReaders<BridgeItem, Bridge>;
  #number = 0;

  constructor(options: BridgesOptions) {
    const { store, rules, readers, errors, logger } = options;
    this.#options = options;
    this.#readers = new LeasedReaders({
      ...{ store, rules, readers, errors, logger, renewMs },
      what: "bridges",
      itemsOf: bridgesOf,
      isSame: isSameBridge,
      open: (item, terms) => this.#open(item, terms),
    });
  }

  /** Of the bridges that this process runs. */
  get statuses(): readonly { bridge: string; status: BridgeStatus }[] {
    return this.#readers.running.map(({ item, status }) => ({ bridge: item.name, status }));
  }

  async start(): Promise<void> {
    await this.#readers.start();
  }

  async stop(): Promise<void> {
    await this.#readers.stop();
  }

  #open(item: BridgeItem, terms: ReaderTerms): Bridge {
    const { store, environment, broker, rules, changeBudget, pulls, metrics, errors, logger } = this.#options;
    const bridgeLogger = logger.child({ bridge: item.name });
    return new Bridge({
      ...terms,
      item,
      url: environment[redisVariable(item.rule)],
      openServers: (url) => new RedisServers({ target: { kind: "standalone", url }, logger: bridgeLogger }),
      incoming: { broker, rules, changeBudget },
      nextNumber: () => ++this.#number,
      ...{ store, pulls, metrics, errors, logger },
    });
  }
}
