/** A private API process, composed in three steps: what it knows, its door with the routes, and the order of their start. */
import swagger from "@fastify/swagger";
import type { ConnectionBounds } from "../shared/http/connections.ts";
import { Door } from "../shared/http/door.ts";
import { addHealthRoutes, cellHealth, type HealthStatus } from "../shared/http/health.ts";
import { Lifecycle, type Service } from "../shared/runtime/lifecycle.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { openFilesLimit, reservedFiles } from "../shared/runtime/open-files.ts";
import { authorizeRequests } from "./authorization.ts";
import { openApi } from "./open-api.ts";
import { createProcessState, type PrivateApiOptions, type ProcessState } from "./process-state.ts";
import { addRoutes } from "./routes.ts";

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

export function createPrivateApi(options: PrivateApiOptions): PrivateApi {
  const { logger } = options;
  const state = createProcessState(options);
  const door = createDoor(options, state);
  const lifecycle = new Lifecycle(logger);
  lifecycle.add("rules", state.context.currentRules);
  lifecycle.add("rollouts", state.context.currentRollouts);
  if (state.rulesFile) lifecycle.add("rules file", state.rulesFile);
  lifecycle.add("upstream", state.context.upstream);
  lifecycle.add("endpoints", state.context.endpoints);
  if (state.dispatcher) {
    lifecycle.add("dispatcher", state.dispatcher);
    // It ends before the dispatcher, which delivers what it queues.
    if (state.changeReader) lifecycle.add("change reader", state.changeReader);
    lifecycle.add("session events", state.sessionEvents);
    lifecycle.add("session sweep", state.sessionSweep);
    lifecycle.add("SQL sources", state.sqlSources);
  }
  if (state.cellMover) lifecycle.add("mover of slots", state.cellMover);
  if (state.pinSettler) lifecycle.add("end of changed pins", state.pinSettler);
  lifecycle.add("door", door);
  // The door waits for calls that read them.
  lifecycle.add("tables of SQL sources", state.tables);
  lifecycle.add("relay streams", state.relayStreams);
  // Relay streams wait for services: calls that only wait for news end before.
  lifecycle.add("pulls", state.context.pulls);
  lifecycle.add("stops of endpoints", state.context.endpoints.stops);
  // Bridges pull: they end first.
  if (state.dispatcher) lifecycle.add("bridges", state.bridges);
  return {
    door,
    start: async () => {
      await lifecycle.start();
      logger.info({ port: door.port }, "private API listening");
    },
    stop: () => lifecycle.stop(),
  };
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
  app.register(swagger, openApi);
  app.register(async (scope) => {
    addRoutes(scope, context);
    relayStreams.addTo(scope, context);
    scope.get("/openapi.json", { config: { access: "public" }, schema: { hide: true } }, () => app.swagger());
    addHealthRoutes(scope, { metrics: metricsRegistry, checks: () => healthChecks(state) });
  });
  return door;
}

function healthChecks({ context, rulesFile, bridges }: ProcessState): Record<string, HealthStatus> {
  const { broker, currentRules, currentRollouts, upstream } = context;
  const services = [...currentRules.rules.services];
  const findings = [...currentRules.findings, ...(rulesFile?.findings ?? [])];
  return {
    // Without the broker's messages publishing still works: the process only learns of new rules later.
    broker: broker.state === "ok" ? "ok" : "degraded",
    ...cellHealth(context.cellMaps.states),
    rules: findings.length === 0 ? "ok" : "degraded",
    rollouts: currentRollouts.findings.length === 0 ? "ok" : "degraded",
    services: services.some((service) => upstream.circuits.of(service).isOpen) ? "degraded" : "ok",
    ...(currentRules.rules.bridges.size > 0 && {
      bridges: bridges.statuses.every(({ status }) => status.state === "live")
        ? ("ok" as const)
        : ("degraded" as const),
    }),
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
