/** A private API process, put together: what it is given, what it starts, what it tells of itself. */
import swagger from "@fastify/swagger";
import type { ContainedErrors } from "../shared/runtime/contained-errors.ts";
import type { ConnectionBounds } from "../shared/http/connections.ts";
import { Door } from "../shared/http/door.ts";
import { addHealthRoutes, type HealthStatus } from "../shared/http/health.ts";
import type { ChannelBroker } from "../shared/channels/contract.ts";
import { Lifecycle, type Service } from "../shared/runtime/lifecycle.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { Metrics } from "../shared/runtime/metrics.ts";
import { openFilesLimit, reservedFiles } from "../shared/runtime/open-files.ts";
import type { DocumentStore } from "../shared/documents/contract.ts";
import type { NodeRegistry } from "../shared/nodes/contract.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import { resolveSecrets, type ServiceSecrets } from "../shared/rules/secrets.ts";
import type { SessionStore } from "../shared/sessions/contract.ts";
import type { Environment } from "../shared/runtime/settings.ts";
import { authorizeRequests } from "./authorization.ts";
import type { PrivateApiConfig } from "./config.ts";
import type { PrivateApiContext } from "./node/context.ts";
import { createFleetReading } from "./fleet-reading.ts";
import { createPrivateApiMetrics } from "./metrics/metrics.ts";
import { addChannelHistory } from "./routes/channel-history.ts";
import { addChannelPresence } from "./routes/channel-presence.ts";
import { addLoad } from "./routes/load.ts";
import { addNodes } from "./routes/nodes.ts";
import { addPublish } from "./routes/publish.ts";
import { addPublishBatch } from "./routes/publish-batch.ts";
import { RelayStreams } from "./relay/relay.ts";
import { addRollouts } from "./routes/rollouts.ts";
import { addRules } from "./routes/rules.ts";
import { addUserChannel } from "./routes/user-channel.ts";
import { addUserDisconnect } from "./routes/user-disconnect.ts";
import { addUserSend } from "./routes/user-send.ts";
import { addUserSessions } from "./routes/user-sessions.ts";
import { RulesFile } from "./documents/rules-file.ts";
import { Upstream } from "./upstream/upstream.ts";

/** Of calls that name no limit of their own: names and a reason. */
const bodyLimit = 16 * 1024;
/** Two streams of each gateway, and what services keep open. */
const maxConnections = 10_000;
/** Whoever has a token is asked for no more than its head: these are connections between two requests. */
const maxUnprovenConnections = 1_000;

/** Redis, and of each service as many requests as may be under way. */
const enoughReservedFiles = 4_096;

export interface PrivateApi extends Service {
  readonly door: Door;
}

/**
 * @param options.environment where secrets of the rules (`env:NAME`) are looked up.
 * @param options.errors counts what the process contains.
 * @param options.broker, options.*Store, options.nodeRegistry started and stopped by the caller, before and after.
 */
export function createPrivateApi(options: {
  config: PrivateApiConfig;
  environment: Environment;
  broker: ChannelBroker;
  rulesStore: DocumentStore;
  rolloutsStore: DocumentStore;
  sessionStore: SessionStore;
  nodeRegistry: NodeRegistry;
  errors: ContainedErrors;
  logger: Logger;
}): PrivateApi {
  const { config, environment, broker, rulesStore, rolloutsStore, sessionStore, nodeRegistry, errors, logger } =
    options;
  let secrets: ServiceSecrets = new Map();
  const currentRules = new CurrentRules({
    store: rulesStore,
    errors,
    logger,
    accept: (rules) => {
      secrets = resolveSecrets(rules, environment);
    },
  });
  const currentRollouts = new CurrentRollouts({ store: rolloutsStore, errors, logger });
  const rulesFile =
    config.RULES_FILE === undefined
      ? undefined
      : new RulesFile({ path: config.RULES_FILE, store: rulesStore, currentRules, environment, errors, logger });

  const registry = new Metrics();
  errors.addTo(registry);
  const relayStreams = new RelayStreams();
  const metrics = createPrivateApiMetrics(registry, {
    relayStreams: () => relayStreams.count,
    fleet: createFleetReading(nodeRegistry),
  });
  const upstream = new Upstream({ rules: currentRules, secrets: () => secrets, metrics, logger });
  const context: PrivateApiContext = {
    broker,
    rulesStore,
    rolloutsStore,
    sessionStore,
    nodeRegistry,
    currentRules,
    currentRollouts,
    rulesFromFile: rulesFile !== undefined,
    environment,
    upstream,
    errors,
    metrics,
    logger,
  };

  const door = new Door({
    name: "api",
    host: config.PRIVATE_API_HOST,
    port: config.PRIVATE_API_PORT,
    bodyLimit,
    bounds: readBounds(logger),
    errors,
    closed: metrics.doorClosed,
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
  app.register(async (routes) => {
    addPublish(routes, context);
    addPublishBatch(routes, context);
    addUserSend(routes, context);
    addUserDisconnect(routes, context);
    addUserChannel(routes, context, "subscribe");
    addUserChannel(routes, context, "unsubscribe");
    addUserSessions(routes, context);
    addChannelHistory(routes, context);
    addChannelPresence(routes, context);
    addRules(routes, context);
    addLoad(routes, context);
    addNodes(routes, context);
    addRollouts(routes, context);
    relayStreams.addTo(routes, context);
    routes.get("/openapi.json", { config: { access: "public" }, schema: { hide: true } }, () => app.swagger());
    addHealthRoutes(routes, { metrics: registry, checks: healthChecks });
  });

  function healthChecks(): Record<string, HealthStatus> {
    const findings = [...currentRules.findings, ...(rulesFile?.findings ?? [])];
    return {
      // Deaf to messages it still takes publishes: it misses changes of the rules for a while, no more.
      broker: broker.state === "ok" ? "ok" : "degraded",
      rules: findings.length === 0 ? "ok" : "degraded",
      rollouts: currentRollouts.findings.length === 0 ? "ok" : "degraded",
    };
  }

  const lifecycle = new Lifecycle(logger);
  lifecycle.add("rules", currentRules);
  lifecycle.add("rollouts", currentRollouts);
  if (rulesFile) lifecycle.add("rules file", rulesFile);
  lifecycle.add("upstream", upstream);
  lifecycle.add("door", door);
  lifecycle.add("relay streams", relayStreams);
  return {
    door,
    start: async () => {
      await lifecycle.start();
      logger.info({ port: door.port }, "private API listening");
    },
    stop: () => lifecycle.stop(),
  };
}

/** Warns where the limit of open files leaves less than is usual. */
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
