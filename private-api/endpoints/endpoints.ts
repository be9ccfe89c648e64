/** Everything of endpoints that one process has: routes, dispatcher and readings share it. */
import { randomBytes } from "node:crypto";
import type { LookupFunction } from "node:net";
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { ChangeLog } from "../../shared/changes/contract.ts";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { AttemptLog, EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { type Endpoint, endpointClass, endpointService, stateOf } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { EndpointClient } from "../../shared/services/endpoint-client.ts";
import { InternetAddresses } from "../../shared/services/internet-addresses.ts";
import type { TableRows } from "../changes/table-rows.ts";
import { readEndpoint } from "./change-endpoint.ts";
import { cursorName } from "./behind.ts";
import { ChangeReader } from "./change-reader.ts";
import type { ChangeDispatcher } from "./change-queue.ts";
import { CurrentEndpoints } from "./current-endpoints.ts";
import { EndpointDeliveries } from "./endpoint-deliveries.ts";
import { EndpointRequests } from "./endpoint-requests.ts";
import { endpointView } from "./endpoint-form.ts";
import { type LedgerLine, ledgerLines, type LedgerQuery } from "./ledger.ts";
import { timeOfMessage } from "./queued-change.ts";
import { EndpointMoves } from "./move-endpoint.ts";
import { EndpointStops } from "./stop-endpoint.ts";
import { FailingEndpoints } from "./failing-endpoints.ts";
import { waitingInLog } from "./waiting-in-log.ts";

export interface EndpointsOptions {
  store: EndpointStore;
  attempts: AttemptLog;
  log: ChangeLog;
  tables: TableRows;
  queues: QueueStore;
  broker: ChannelBroker;
  rules: CurrentRules;
  changeBudget: ChangeBudget;
  allowedNetworks: readonly string[];
  /** Instead of the system's resolver. */
  resolve?: LookupFunction;
  errors: ContainedErrors;
  logger: Logger;
}

export class Endpoints implements Service {
  readonly store: EndpointStore;
  readonly attempts: AttemptLog;
  readonly addresses: InternetAddresses;
  readonly requests: EndpointRequests;
  readonly deliveries: EndpointDeliveries;
  readonly moves: EndpointMoves;
  readonly stops: EndpointStops;
  readonly #log: ChangeLog;
  readonly #tables: TableRows;
  readonly #queues: QueueStore;
  readonly #current: CurrentEndpoints;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #client: EndpointClient;

  constructor(options: EndpointsOptions) {
    const { store, attempts, log, queues, broker, rules, changeBudget, resolve, errors, logger } = options;
    this.store = store;
    this.attempts = attempts;
    this.#log = log;
    this.#tables = options.tables;
    this.#queues = queues;
    this.moves = new EndpointMoves({
      ...{ store, log },
      offsetOf: async (channel) => {
        const positionOnly = { retention: rules.rules.namespace(channel), limit: 0, maxBytes: 0 };
        return (await broker.readHistory({ channel, ...positionOnly })).position.offset;
      },
    });
    this.stops = new EndpointStops({ store, log, queues, moves: this.moves });
    this.addresses = new InternetAddresses(options.allowedNetworks);
    this.#client = new EndpointClient({ addresses: this.addresses, ...(resolve && { resolve }) });
    const current = new CurrentEndpoints({ store, errors, logger });
    this.#current = current;
    const failing = new FailingEndpoints({ store, broker, rules, changeBudget, logger });
    this.requests = new EndpointRequests({
      ...{ client: this.#client, attempts, errors, logger },
      onFailing: async (stored, why) => failing.failed(stored, why),
    });
    this.deliveries = new EndpointDeliveries({ current, store, requests: this.requests });
    this.#errors = errors;
    this.#logger = logger;
  }

  /**
   * Reads the log for endpoints. The caller starts and stops it.
   * @param dispatcher of this process @param readers how many processes read the log
   */
  createReader(dispatcher: ChangeDispatcher, readers: () => Promise<number>): ChangeReader {
    const queues = this.#queues;
    return new ChangeReader({
      ...{ log: this.#log, current: this.#current, tables: this.#tables, readers },
      queues: {
        enqueue: (item, after) => dispatcher.enqueue(item, after),
        waitingOfSource: (source, slots) => queues.waitingOfSource(source, slots),
        histories: () => queues.histories(),
      },
      nextSpare: () => dispatcher.nextSpare(),
      ...{ errors: this.#errors, logger: this.#logger },
    });
  }

  async start(): Promise<void> {
    await this.#client.start();
    await this.#current.start();
  }

  async stop(): Promise<void> {
    await this.#current.stop();
    await this.#client.stop();
  }

  newId(): string {
    return `ep_${randomBytes(12).toString("base64url")}`;
  }

  /** In the order of their ids. @param query.after the last id of the page before; "" begins @param query.accepts which endpoints to list */
  async list(query: {
    limit: number;
    after: string;
    accepts: (endpoint: Endpoint) => boolean;
  }): Promise<readonly StoredEndpoint[]> {
    const { limit, after, accepts } = query;
    await this.#current.catchUp();
    const later = [...this.#current.index.all].filter(({ endpoint }) => endpoint.id > after && accepts(endpoint));
    return later.sort((one, other) => (one.endpoint.id < other.endpoint.id ? -1 : 1)).slice(0, limit);
  }

  /** @throws TidegateError `not_found` */
  async remove(id: string): Promise<void> {
    const stored = await readEndpoint(this.store, id);
    await this.store.remove(id);
    await this.attempts.forget(id);
    // The reader of each slot removes them as well: it may store one after this, and this process may end here.
    const name = cursorName(stored);
    await this.#log.saveCursors(everySlot.map((slot) => ({ slot, name, place: undefined })));
  }

  ledger(stored: StoredEndpoint, query: LedgerQuery): AsyncIterable<LedgerLine> {
    return ledgerLines({ log: this.#log, tables: this.#tables }, stored, query);
  }

  /** For answers. */
  async view(stored: StoredEndpoint): Promise<object> {
    const [waiting, [health = {}]] = await Promise.all([
      this.#waiting(stored),
      this.attempts.health([stored.endpoint.id]),
    ]);
    const since = Math.min(waiting.oldestAt, health.failingSince ?? Infinity);
    const ms = waiting.changes === 0 || since === Infinity ? 0 : Math.max(0, Date.now() - since);
    return endpointView(stored, { lag: { changes: waiting.changes, ms }, health });
  }

  /** Counts what is queued for the endpoint, and what it has not got from the log yet. */
  async #waiting(stored: StoredEndpoint): Promise<{ changes: number; oldestAt: number }> {
    if (stateOf(stored.endpoint) === "shadow") return { changes: 0, oldestAt: Infinity };
    const [queued, inLog] = await Promise.all([
      this.#queues.waitingOfSource(endpointService(stored.endpoint.id)),
      waitingInLog(this.#log, stored),
    ]);
    const oldestQueuedAt = queued === 0 ? Infinity : await this.#oldestQueuedAt(stored);
    return { changes: queued + inLog.changes, oldestAt: Math.min(oldestQueuedAt, inLog.oldestAt) };
  }

  async #oldestQueuedAt({ endpoint: { id, tenant = "" } }: StoredEndpoint): Promise<number> {
    const service = endpointService(id);
    const bodies = await this.#queues.firstWaiting({ class: endpointClass, service, tenant, source: service });
    return Math.min(...bodies.map((body) => timeOfMessage(body) ?? Infinity));
  }
}
