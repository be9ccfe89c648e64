/** First step of a private API process: what it knows and holds, before its door opens. */
import { ChangeBudget } from "../shared/changes/budget.ts";
import { endpointClass } from "../shared/endpoints/endpoint.ts";
import { dispatchersLoad } from "../shared/load/dispatch-load.ts";
import { fleetLoad } from "../shared/load/fleet-load.ts";
import type { OpenStores } from "../shared/program/stores.ts";
import { depthsByTarget } from "../shared/queues/depths.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import type { Rules } from "../shared/rules/rules.ts";
import { resolveSecrets, type ServiceSecrets } from "../shared/rules/secrets.ts";
import type { Service } from "../shared/runtime/lifecycle.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { Metrics } from "../shared/runtime/metrics.ts";
import type { Environment } from "../shared/runtime/settings.ts";
import { SessionEvents } from "../shared/queues/session-events.ts";
import { Bridges } from "./bridges/bridges.ts";
import { cellFigures } from "./cells/cell-figures.ts";
import { CellMover } from "./cells/mover.ts";
import { PinSettler } from "./cells/pin-settler.ts";
import { ChangePulls } from "./changes/change-pulls.ts";
import type { PrivateApiConfig } from "./config.ts";
import { RulesFile } from "./documents/rules-file.ts";
import { FleetLists } from "./fleet/fleet-lists.ts";
import { createDispatcher } from "./dispatch/create-dispatcher.ts";
import { SessionSweep } from "./dispatch/session-sweep.ts";
import { Endpoints } from "./endpoints/endpoints.ts";
import { createReading } from "./readings.ts";
import { createPrivateApiMetrics } from "./metrics/metrics.ts";
import type { PrivateApiContext } from "./node/context.ts";
import { RelayStreams } from "./relay/relay-streams.ts";
import { openDatabase } from "./sources/open-database.ts";
import { SourceTables } from "./sources/source-tables.ts";
import { SqlSources } from "./sources/sql-sources.ts";
import { Upstream } from "./upstream/upstream.ts";

/** The caller starts the stores before the private API, and stops them after it. */
export interface PrivateApiOptions extends OpenStores {
  config: PrivateApiConfig;
  /** Holds the secrets that rules refer to as `env:NAME`. */
  environment: Environment;
  logger: Logger;
}

export interface ProcessState {
  readonly context: PrivateApiContext;
  readonly rulesFile: RulesFile | undefined;
  readonly relayStreams: RelayStreams;
  /** Undefined where this process delivers nothing. */
  readonly dispatcher: Service | undefined;
  /** Undefined where there is no dispatcher. */
  readonly changeReader: Service | undefined;
  readonly sessionEvents: SessionEvents;
  readonly sessionSweep: SessionSweep;
  readonly sqlSources: SqlSources;
  readonly tables: SourceTables;
  readonly bridges: Bridges;
  /** Undefined in memory. */
  readonly cellMover: CellMover | undefined;
  /** Undefined in memory. */
  readonly pinSettler: PinSettler | undefined;
  readonly metricsRegistry: Metrics;
}

export function createProcessState(options: PrivateApiOptions): ProcessState {
  const { rulesStore, rolloutsStore, nodeRegistry, dispatcherRegistry, cellMaps, errors, logger } = options;
  const metricsRegistry = new Metrics();
  errors.addTo(metricsRegistry);
  const metrics = createPrivateApiMetrics(metricsRegistry);
  const { currentRules, currentRollouts, rulesFile, secrets } = createDocuments(options);
  const tables = new SourceTables({
    ...{ rules: currentRules, environment: options.environment, store: options.sqlShards, open: openDatabase, logger },
  });
  const context: PrivateApiContext = {
    broker: options.broker,
    rulesStore,
    rolloutsStore,
    sessionStore: options.sessionStore,
    queues: options.queues,
    nodeRegistry,
    fleetLists: new FleetLists({ inventory: options.inventory, nodeRegistry }),
    dispatcherRegistry,
    cellMaps,
    currentRules,
    currentRollouts,
    rulesFromFile: rulesFile !== undefined,
    environment: options.environment,
    upstream: new Upstream({
      rules: currentRules,
      secrets,
      cells: () => cellMaps.map,
      metrics,
      logger,
    }),
    ...createEndpoints(options, currentRules, tables),
    pulls: new ChangePulls({ log: options.changeLog, tables, logger }),
    sqlShards: options.sqlShards,
    errors,
    metrics,
    logger,
  };
  const relayStreams = new RelayStreams({ errors, logger });
  const work = createWork(options, context);
  observe(options, context, { relayStreams, ...work });
  return { context, rulesFile, relayStreams, tables, ...work, metricsRegistry };
}

/** The documents in force, and the secrets of services that the rules name. */
function createDocuments({
  config,
  environment,
  rulesStore,
  rolloutsStore,
  errors,
  logger,
}: PrivateApiOptions): Pick<PrivateApiContext, "currentRules" | "currentRollouts"> &
  Pick<ProcessState, "rulesFile"> & { secrets: () => ServiceSecrets } {
  let secrets: ServiceSecrets = new Map();
  const currentRules = new CurrentRules({
    store: rulesStore,
    errors,
    logger,
    accept: (rules) => {
      secrets = resolveSecrets(rules, environment);
      warnOfClasses(config.DISPATCH_CLASSES, rules, logger);
    },
  });
  const currentRollouts = new CurrentRollouts({ store: rolloutsStore, errors, logger });
  const path = config.RULES_FILE;
  const rulesFile =
    path === undefined
      ? undefined
      : new RulesFile({ path, store: rulesStore, currentRules, environment, errors, logger });
  return { currentRules, currentRollouts, rulesFile, secrets: () => secrets };
}

/** If every process misspells a class, no process delivers its items. */
function warnOfClasses(given: readonly string[] = [], { classes }: Rules, logger: Logger): void {
  const unknown = given.filter((name) => name !== endpointClass && !classes.has(name));
  if (unknown.length > 0)
    logger.warn({ classes: unknown }, "DISPATCH_CLASSES names classes that the rules do not have");
}

/** Webhooks out, and the part of the change log that is kept for them. */
function createEndpoints(
  options: PrivateApiOptions,
  rules: CurrentRules,
  tables: SourceTables,
): Pick<PrivateApiContext, "endpoints" | "changeBudget"> {
  const { config, broker, queues, changeLog, errors, logger } = options;
  const changeBudget = new ChangeBudget({
    log: changeLog,
    maxBytes: config.CHANGES_MAX_BYTES,
    maxSeconds: config.CHANGES_MAX_SECONDS,
    maxRowBytes: config.CHANGES_MAX_ROW_BYTES,
    logger,
  });
  const endpoints = new Endpoints({
    store: options.endpointStore,
    attempts: options.attemptLog,
    log: changeLog,
    allowedNetworks: config.ENDPOINT_ALLOWED_NETWORKS,
    ...{ tables, queues, broker, rules, changeBudget, errors, logger },
  });
  return { endpoints, changeBudget };
}

/** What one process does for the whole fleet: it delivers queued items, ends sessions that are over, reads SQL sources, runs bridges, and moves slots. */
function createWork(
  options: PrivateApiOptions,
  context: PrivateApiContext,
): Pick<
  ProcessState,
  | "dispatcher"
  | "changeReader"
  | "sessionEvents"
  | "sessionSweep"
  | "sqlSources"
  | "bridges"
  | "cellMover"
  | "pinSettler"
> {
  const { config, queues, sessionStore, dispatcherRegistry, cellMaps, cells, errors, logger } = options;
  const { currentRules, upstream, endpoints, metrics } = context;
  const readers = async (): Promise<number> => (await dispatcherRegistry.loads()).length;
  const dispatcher =
    config.DISPATCH_CONCURRENCY === 0
      ? undefined
      : createDispatcher({
          ...{ config, queues, registry: dispatcherRegistry },
          ...{ currentRules, upstream, endpoints: endpoints.deliveries, metrics, errors, logger },
        });
  const changeReader = dispatcher && endpoints.createReader(dispatcher, readers);
  const sessionEvents = new SessionEvents({
    store: sessionStore,
    queues,
    rules: () => currentRules.rules,
    onStored: (kind) => metrics.sessionEvents.inc({ event: kind }),
    errors,
    logger,
  });
  const isWanted = (): boolean => sessionEvents.isWanted;
  const sessionSweep = new SessionSweep({ store: sessionStore, isWanted, errors, logger });
  const onClosed = (closedMs: number): void => metrics.cellPause.observe(closedMs / 1_000);
  const cellMover = cells && new CellMover({ cells, maps: cellMaps, onClosed, errors, logger });
  const pinSettler = cells && new PinSettler({ cells, maps: cellMaps, errors, logger });
  const sqlSources = new SqlSources({
    ...{ store: options.sqlShards, broker: options.broker, rules: currentRules, changeBudget: context.changeBudget },
    environment: options.environment,
    readers,
    ...{ metrics, errors, logger },
  });
  const bridges = new Bridges({
    ...{ store: options.sqlShards, broker: options.broker, rules: currentRules, changeBudget: context.changeBudget },
    ...{ environment: options.environment, pulls: context.pulls },
    readers,
    ...{ metrics, errors, logger },
  });
  return { dispatcher, changeReader, sessionEvents, sessionSweep, sqlSources, bridges, cellMover, pinSettler };
}

/** Figures that are read at each scrape of the metrics. */
function observe(
  { queues, changeLog, nodeRegistry, dispatcherRegistry, cellMaps }: PrivateApiOptions,
  { currentRules, upstream, pulls, metrics }: PrivateApiContext,
  { relayStreams, sqlSources, bridges }: Pick<ProcessState, "relayStreams" | "sqlSources" | "bridges">,
): void {
  metrics.observe({
    relayStreams: () => relayStreams.count,
    circuits: () => {
      const services = [...currentRules.rules.services];
      return Object.fromEntries(
        services.map((service) => [service.name, Number(upstream.circuits.of(service).isOpen)]),
      );
    },
    fleet: createReading(async () => fleetLoad(await nodeRegistry.nodes())),
    dispatchers: createReading(async () => {
      const loads = await dispatcherRegistry.loads();
      return { count: loads.length, ...dispatchersLoad(loads) };
    }),
    queues: createReading(async () => {
      const { services, deadLetters, unreachedSlots } = await queues.depths();
      return { targets: depthsByTarget(services, currentRules.rules), deadLetters, unreachedSlots };
    }),
    cells: () => cellFigures(cellMaps),
    changes: createReading(async () => changeLog.figures()),
    pullsWaiting: () => pulls.waiting,
    sqlShards: () => sqlSources.statuses,
    bridges: () => bridges.statuses,
  });
}
