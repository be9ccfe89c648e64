/** A private API process, put together: what it is given, what it starts, what it tells of itself. */
import swagger from "@fastify/swagger";
import type { ContainedErrors } from "../shared/contained-errors.ts";
import { createDoor, ListeningDoor } from "../shared/http/door.ts";
import { addHealthRoutes, type HealthStatus } from "../shared/http/health.ts";
import type { ChannelBroker } from "../shared/channels/broker.ts";
import { Lifecycle, type Service } from "../shared/lifecycle.ts";
import type { Logger } from "../shared/logging.ts";
import { Metrics } from "../shared/metrics.ts";
import { maxBatchBytes } from "../shared/protocol/limits.ts";
import type { DocumentStore } from "../shared/documents/store.ts";
import type { NodeRegistry } from "../shared/nodes/registry.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import { resolveSecrets, type ServiceSecrets } from "../shared/rules/secrets.ts";
import type { SessionStore } from "../shared/sessions/store.ts";
import type { Environment } from "../shared/settings.ts";
import { createScopeGuard } from "./authorization.ts";
import type { PrivateApiConfig } from "./config.ts";
import type { PrivateApiContext } from "./context.ts";
import { createFleetReading } from "./fleet-reading.ts";
import { createPrivateApiMetrics } from "./metrics.ts";
import { addChannelHistory } from "./routes/channel-history.ts";
import { addChannelPresence } from "./routes/channel-presence.ts";
import { addLoad } from "./routes/load.ts";
import { addNodes } from "./routes/nodes.ts";
import { addPublish } from "./routes/publish.ts";
import { addPublishBatch } from "./routes/publish-batch.ts";
import { RelayStreams } from "./routes/relay.ts";
import { addRollouts } from "./routes/rollouts.ts";
import { addRules } from "./routes/rules.ts";
import { addUserChannel } from "./routes/user-channel.ts";
import { addUserDisconnect } from "./routes/user-disconnect.ts";
import { addUserSend } from "./routes/user-send.ts";
import { addUserSessions } from "./routes/user-sessions.ts";
import { RulesFile } from "./routing/rules-file.ts";
import { Upstream } from "./routing/upstream.ts";

export interface PrivateApi extends Service {
  readonly door: ListeningDoor;
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
    logger,
    accept: (rules) => {
      secrets = resolveSecrets(rules, environment);
    },
  });
  const currentRollouts = new CurrentRollouts({ store: rolloutsStore, logger });
  const rulesFile =
    config.RULES_FILE === undefined
      ? undefined
      : new RulesFile({ path: config.RULES_FILE, store: rulesStore, currentRules, environment, logger });

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
    requireScope: createScopeGuard(config.PRIVATE_API_TOKENS),
    errors,
    metrics,
    logger,
  };

  const app = createDoor({ logger, bodyLimit: maxBatchBytes });
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
    routes.get("/openapi.json", { schema: { hide: true } }, () => app.swagger());
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

  const door = new ListeningDoor(app, { host: config.PRIVATE_API_HOST, port: config.PRIVATE_API_PORT });
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
