/** A private API process, composed in three steps: what it knows, its door with the routes, and the order of their start. */
import swagger from "@fastify/swagger";
import { ChangeBudget } from "../shared/changes/budget.ts";
import type { ChangeLog } from "../shared/changes/contract.ts";
import type { ChannelBroker } from "../shared/channels/contract.ts";
import type { DocumentStore } from "../shared/documents/contract.ts";
import type { AttemptLog, EndpointStore } from "../shared/endpoints/contract.ts";
import type { ConnectionBounds } from "../shared/http/connections.ts";
import { Door } from "../shared/http/door.ts";
import { addHealthRoutes, cellHealth, type HealthStatus } from "../shared/http/health.ts";
import { fleetLoad } from "../shared/load/fleet-load.ts";
import type { CellMaps } from "../shared/cells/contract.ts";
import type { Cells } from "../shared/redis/cells.ts";
import type { DispatcherRegistry } from "../shared/dispatchers/contract.ts";
import { dispatchersLoad } from "../shared/load/dispatch-load.ts";
import type { NodeRegistry } from "../shared/nodes/contract.ts";
import { depthsByTarget } from "../shared/queues/depths.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import { resolveSecrets, type ServiceSecrets } from "../shared/rules/secrets.ts";
import type { ContainedErrors } from "../shared/runtime/contained-errors.ts";
import { Lifecycle, type Service } from "../shared/runtime/lifecycle.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { Metrics } from "../shared/runtime/metrics.ts";
import { openFilesLimit, reservedFiles } from "../shared/runtime/open-files.ts";
import type { Environment } from "../shared/runtime/settings.ts";
import type { QueueOperations, QueueStore } from "../shared/queues/contract.ts";
import { SessionEvents } from "../shared/queues/session-events.ts";
import type { SessionEventStore, SessionStore } from "../shared/sessions/contract.ts";
import { cellFigures } from "./cells/cell-figures.ts";
import { CellMover } from "./cells/mover.ts";
import { authorizeRequests } from "./authorization.ts";
import { ChangePulls } from "./changes/change-pulls.ts";
import type { PrivateApiConfig } from "./config.ts";
import { RulesFile } from "./documents/rules-file.ts";
import { createDispatcher } from "./dispatch/create-dispatcher.ts";
import { SessionSweep } from "./dispatch/session-sweep.ts";
import { Endpoints } from "./endpoints/endpoints.ts";
import { createReading } from "./readings.ts";
import { createPrivateApiMetrics } from "./metrics/metrics.ts";
import type { PrivateApiContext } from "./node/context.ts";
import { RelayStreams } from "./relay/relay-streams.ts";
import { addRoutes } from "./routes.ts";
import { Upstream } from "./upstream/upstream.ts";

/** For calls that set no limit of their own. */
const bodyLimit = 16 * 1024;
/** Two streams of each gateway, and the connections that services keep open. */
const maxConnections = 10_000;
/** Connections without a request whose token has been checked. */
const maxUnprovenConnections = 1_000;
/** Redis, and for each service as many connections as requests under way. */
const enoughReservedFiles = 4_096;

export interface PrivateApi extends Service {
  readonly door: Door;
}

/** The caller starts the broker, the stores and the registry before the private API, and stops them after it. */
export interface PrivateApiOptions {
  config: PrivateApiConfig;
  /** Holds the secrets that rules refer to as `env:NAME`. */
  environment: Environment;
  broker: ChannelBroker;
  rulesStore: DocumentStore;
  rolloutsStore: DocumentStore;
  sessionStore: SessionStore & SessionEventStore;
  queues: QueueStore & QueueOperations;
  changeLog: ChangeLog;
  endpointStore: EndpointStore;
  attemptLog: AttemptLog;
  nodeRegistry: NodeRegistry;
  dispatcherRegistry: DispatcherRegistry;
  cellMaps: CellMaps;
  /** Undefined in memory. */
  cells: Cells | undefined;
  errors: ContainedErrors;
  logger: Logger;
}

interface ProcessState {
  readonly context: PrivateApiContext;
  readonly rulesFile: RulesFile | undefined;
  /** Undefined where this process delivers nothing. */
  readonly dispatcher: Service | undefined;
  readonly sessionEvents: SessionEvents;
  readonly sessionSweep: SessionSweep;
  readonly relayStreams: RelayStreams;
  /** Undefined in memory. */
  readonly cellMover: CellMover | undefined;
  readonly metricsRegistry: Metrics;
}

export function createPrivateApi(options: PrivateApiOptions): PrivateApi {
  const { logger } = options;
  const state = createState(options);
  const door = createDoor(options, state);
  const lifecycle = new Lifecycle(logger);
  lifecycle.add("rules", state.context.currentRules);
  lifecycle.add("rollouts", state.context.currentRollouts);
  if (state.rulesFile) lifecycle.add("rules file", state.rulesFile);
  lifecycle.add("upstream", state.context.upstream);
  lifecycle.add("endpoints", state.context.endpoints);
  if (state.dispatcher) {
    lifecycle.add("dispatcher", state.dispatcher);
    lifecycle.add("change reader", state.context.endpoints.reader);
    lifecycle.add("session events", state.sessionEvents);
    lifecycle.add("session sweep", state.sessionSweep);
  }
  if (state.cellMover) lifecycle.add("mover of slots", state.cellMover);
  lifecycle.add("door", door);
  lifecycle.add("pulls", state.context.pulls);
  lifecycle.add("relay streams", state.relayStreams);
  return {
    door,
    start: async () => {
      await lifecycle.start();
      logger.info({ port: door.port }, "private API listening");
    },
    stop: () => lifecycle.stop(),
  };
}

function createState(options: PrivateApiOptions): ProcessState {
  const {
    config,
    environment,
    broker,
    rulesStore,
    rolloutsStore,
    sessionStore,
    changeLog,
    nodeRegistry,
    dispatcherRegistry,
    cellMaps,
    cells,
    errors,
    logger,
  } = options;
  const metricsRegistry = new Metrics();
  errors.addTo(metricsRegistry);
  const metrics = createPrivateApiMetrics(metricsRegistry);
  let secrets: ServiceSecrets = new Map();
  const currentRules = new CurrentRules({
    store: rulesStore,
    errors,
    logger,
    accept: (rules) => {
      secrets = resolveSecrets(rules, environment);
    },
  });
  const path = config.RULES_FILE;
  const rulesFile =
    path === undefined
      ? undefined
      : new RulesFile({ path, store: rulesStore, currentRules, environment, errors, logger });
  const relayStreams = new RelayStreams();
  const upstream = new Upstream({
    rules: currentRules,
    secrets: () => secrets,
    cellOf: (slot) => cellMaps.map.owners[slot] ?? "",
    metrics,
    logger,
  });
  const changeBudget = new ChangeBudget({
    log: changeLog,
    maxBytes: config.CHANGES_MAX_BYTES,
    maxSeconds: config.CHANGES_MAX_SECONDS,
    logger,
  });
  const endpoints = new Endpoints({
    store: options.endpointStore,
    attempts: options.attemptLog,
    log: changeLog,
    readers: async () => (await dispatcherRegistry.loads()).length,
    allowedNetworks: config.ENDPOINT_ALLOWED_NETWORKS,
    ...{ queues: options.queues, broker, rules: currentRules, changeBudget, errors, logger },
  });
  const pulls = new ChangePulls(changeLog, logger);
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
      const { services, deadLetters, unreachedSlots } = await options.queues.depths();
      return { targets: depthsByTarget(services, currentRules.rules), deadLetters, unreachedSlots };
    }),
    cells: () => cellFigures(cellMaps),
    changes: createReading(async () => changeLog.figures()),
    pullsWaiting: () => pulls.waiting,
  });
  const context: PrivateApiContext = {
    broker,
    rulesStore,
    rolloutsStore,
    sessionStore,
    queues: options.queues,
    nodeRegistry,
    dispatcherRegistry,
    cellMaps,
    currentRules,
    currentRollouts: new CurrentRollouts({ store: rolloutsStore, errors, logger }),
    rulesFromFile: rulesFile !== undefined,
    environment,
    upstream,
    endpoints,
    changeBudget,
    pulls,
    errors,
    metrics,
    logger,
  };
  const dispatcher =
    config.DISPATCH_CONCURRENCY === 0
      ? undefined
      : createDispatcher({
          ...{ config, queues: options.queues, registry: dispatcherRegistry },
          ...{ currentRules, upstream, endpoints: endpoints.deliveries, metrics, errors, logger },
        });
  const sessionEvents = new SessionEvents({
    store: sessionStore,
    queues: options.queues,
    rules: () => currentRules.rules,
    onStored: (kind) => metrics.sessionEvents.inc({ event: kind }),
    errors,
    logger,
  });
  const isWanted = (): boolean => sessionEvents.isWanted;
  const sessionSweep = new SessionSweep({ store: sessionStore, isWanted, errors, logger });
  const onClosed = (closedMs: number): void => metrics.cellPause.observe(closedMs / 1_000);
  const cellMover = cells && new CellMover({ cells, maps: cellMaps, onClosed, errors, logger });
  return { context, rulesFile, dispatcher, sessionEvents, sessionSweep, relayStreams, cellMover, metricsRegistry };
}

function createDoor({ config, errors, logger }: PrivateApiOptions, state: ProcessState): Door {
  const { context, relayStreams, metricsRegistry } = state;
  const door = new Door({
    name: "api",
    host: config.PRIVATE_API_HOST,
    port: config.PRIVATE_API_PORT,
    bodyLimit,
    bounds: readBounds(logger),
    errors,
    closed: context.metrics.doorClosed,
    logger,
  });
  const { app } = door;
  authorizeRequests(door, config.PRIVATE_API_TOKENS);
  app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Tidegate private API", version: "1" },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
  });
  app.register(async (scope) => {
    addRoutes(scope, context);
    relayStreams.addTo(scope, context);
    scope.get("/openapi.json", { config: { access: "public" }, schema: { hide: true } }, () => app.swagger());
    addHealthRoutes(scope, { metrics: metricsRegistry, checks: () => healthChecks(state) });
  });
  return door;
}

function healthChecks({ context, rulesFile }: ProcessState): Record<string, HealthStatus> {
  const { broker, currentRules, currentRollouts } = context;
  const findings = [...currentRules.findings, ...(rulesFile?.findings ?? [])];
  return {
    // Without the broker's messages publishing still works: the process only learns of new rules later.
    broker: broker.state === "ok" ? "ok" : "degraded",
    ...cellHealth(context.cellMaps.states),
    rules: findings.length === 0 ? "ok" : "degraded",
    rollouts: currentRollouts.findings.length === 0 ? "ok" : "degraded",
  };
}

/** Warns where the limit of open files leaves fewer connections than usual. */
function readBounds(logger: Logger): ConnectionBounds {
  const limit = openFilesLimit();
  const needed = maxConnections + enoughReservedFiles;
  const total = Math.min(maxConnections, limit - reservedFiles(limit, enoughReservedFiles));
  if (needed > limit) {
    logger.warn(
      { limit, needed, maxConnections: total },
      "the limit of open files is low: raise it (ulimit -n, LimitNOFILE)",
    );
  }
  return { total, unproven: Math.min(maxUnprovenConnections, Math.floor(total / 2)) };
}
