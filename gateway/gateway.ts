/** A gateway node, put together: what it is given, what it starts, what it tells of itself. */
import { randomUUID } from "node:crypto";
import { Door } from "../shared/http/door.ts";
import { addHealthRoutes, type HealthStatus, storeHealth } from "../shared/http/health.ts";
import type { DocumentStore } from "../shared/documents/contract.ts";
import type { ChannelBroker } from "../shared/channels/contract.ts";
import type { ContainedErrors } from "../shared/runtime/contained-errors.ts";
import { createVerifier } from "../shared/tokens/jwt.ts";
import { Lifecycle, type Service } from "../shared/runtime/lifecycle.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { Metrics } from "../shared/runtime/metrics.ts";
import { openFilesLimit } from "../shared/runtime/open-files.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import { admissionWeight } from "../shared/load/admission-weight.ts";
import type { NodeRegistry, NodeReport } from "../shared/nodes/contract.ts";
import type { SessionStore } from "../shared/sessions/contract.ts";
import { originPolicy } from "./entrance/allowed-origins.ts";
import { addBootstrap } from "./bootstrap/bootstrap.ts";
import { type Capacity, capacityOf } from "./capacity.ts";
import type { GatewayConfig } from "./config.ts";
import type { GatewayContext } from "./node/context.ts";
import { FleetMember } from "./fleet/fleet-member.ts";
import { Grants } from "./sessions/grant.ts";
import { NodeHoldings } from "./sessions/node-holdings.ts";
import { Presence } from "./sessions/presence.ts";
import { ResumeTokens } from "./sessions/resume-token.ts";
import { endWithdrawn, onUserMessage } from "./commands/user-commands.ts";
import { FollowedChannels } from "./channels/followed-channels.ts";
import { addLoadRoute } from "./load/load-route.ts";
import { NodeLoad } from "./load/node-load.ts";
import { createGatewayMetrics } from "./metrics/metrics.ts";
import { Drain } from "./moving/drain.ts";
import { HandOver } from "./moving/hand-over.ts";
import { trustedProxies } from "./entrance/client-address.ts";
import { defaultLiveness, type Liveness } from "./engine/liveness.ts";
import { RelayClient } from "./relay/relay-client.ts";
import { Sessions } from "./sessions/sessions.ts";
import { SocketServer } from "./engine/socket-server.ts";
import { StalledSessions } from "./sessions/stalled-sessions.ts";

/** Nothing the doors of a gateway take in is larger. */
const bodyLimit = 64 * 1024;

export interface Gateway extends Service {
  /** Public door; routes may be added to its app before the start. */
  readonly publicDoor: Door;
  readonly adminDoor: Door;
  readonly sessionCount: number;
  /** Channels with a follower on this node. */
  readonly channelCount: number;
  /** Private API addresses that can be asked. */
  readonly openLinks: number;
  /** Of the rules in force; 0: none yet. */
  readonly rulesVersion: number;
  /** Of the rollouts in force; 0: none yet. */
  readonly rolloutsVersion: number;
}

/**
 * @param options.broker, options.*Store, options.nodeRegistry started and stopped by the caller, before and after the gateway.
 * @param options.errors counts what the node contains.
 * @param options.liveness shorter than the default in tests.
 */
export function createGateway(options: {
  config: GatewayConfig;
  broker: ChannelBroker;
  rulesStore: DocumentStore;
  rolloutsStore: DocumentStore;
  sessionStore: SessionStore;
  nodeRegistry: NodeRegistry;
  errors: ContainedErrors;
  logger: Logger;
  liveness?: Liveness;
}): Gateway {
  const {
    config,
    broker,
    rulesStore,
    rolloutsStore,
    sessionStore,
    nodeRegistry,
    errors,
    logger,
    liveness = defaultLiveness,
  } = options;
  const node = config.GATEWAY_NODE;
  const capacity = readCapacity(config.GATEWAY_MAX_CONNECTIONS, logger);
  const { maxConnections } = capacity;
  const currentRules = new CurrentRules({ store: rulesStore, errors, logger });
  const currentRollouts = new CurrentRollouts({ store: rolloutsStore, errors, logger });
  const relay = new RelayClient({
    addresses: config.PRIVATE_API_URL,
    token: config.PRIVATE_API_TOKEN,
    node,
    burst: 2 * config.GATEWAY_MESSAGES_PER_SECOND,
    errors,
    logger,
  });
  const registry = new Metrics();
  errors.addTo(registry);
  const metrics = createGatewayMetrics(registry, {
    sessions: () => sessions.count,
    channels: () => channels.channelCount,
    pendingCalls: () => relay.pendingCount,
    tailBytes: () => channels.tailBytes,
    outboxBytes: () => queuedBytes(),
    largestOutboxBytes: () => sessions.all.reduce((most, session) => Math.max(most, session.outbox.bytes), 0),
    waitingSessions: () => sessions.all.filter((session) => session.outbox.bytes > 0).length,
    loadFactor: () => load.factor,
    dimensions: () => load.dimensions,
    seats: () => sockets.seats,
    waitingHandshakes: () => sockets.admission.waiting,
    waitingUpgrades: () => sockets.waitingUpgrades,
  });
  const channels = new FollowedChannels({
    broker,
    rules: currentRules,
    errors,
    logger,
    metrics,
  });
  const sessions = new Sessions({ broker, logger });
  const queuedBytes = (): number => sessions.all.reduce((sum, session) => sum + session.outbox.bytes, 0);
  const { onPublication, onEphemeral, onInterrupted, onRestored } = channels.listener;
  broker.listen({
    onPublication: errors.guarded("store", onPublication),
    onEphemeral: errors.guarded("store", onEphemeral),
    onInterrupted: errors.guarded("store", onInterrupted),
    onUserMessage: errors.guarded("store", (user, message) => onUserMessage(user, message, context)),
    onRestored: () => {
      errors.contain("store", onRestored);
      errors.contain("store", () => sessions.onRestored());
      errors.contain("store", () => holdings.onRestored());
    },
  });

  const verify = createVerifier({
    secret: config.AUTH_JWT_SECRET,
    jwksUrl: config.AUTH_JWKS_URL,
    issuer: config.AUTH_ISSUER,
    audience: config.AUTH_AUDIENCE,
  });
  const holdings = new NodeHoldings({
    store: sessionStore,
    node,
    sessions,
    onWithdrawn: (session) => endWithdrawn(session, context),
    metrics,
    logger,
  });
  const load = new NodeLoad(
    () => ({
      connections: sockets.seats,
      maxConnections,
      queuedBytes: queuedBytes(),
      admissionsPerSecond: sockets.admission.demandPerSecond,
      admissionRate: fleet.sharePerSecond,
    }),
    errors,
  );
  const instance = randomUUID();
  const startedAt = Date.now();
  const describe = (): NodeReport => ({
    node,
    instance,
    state: sockets.accepting ? "ready" : "draining",
    startedAt,
    ...(config.PUBLIC_URL !== undefined && { url: config.PUBLIC_URL }),
    connections: sockets.seats,
    maxConnections,
    factor: load.factor,
    dimensions: load.dimensions,
    idleMemory: load.idleMemory,
    admissionWeight: admissionWeight({
      draining: !sockets.accepting,
      // Whoever waits to be let in has a seat, and is what the share is for.
      freeSeats: maxConnections - sessions.count,
      dimensions: load.dimensions,
    }),
    ...(drain.report && { drain: drain.report }),
  });
  const fleet = new FleetMember({
    registry: nodeRegistry,
    describe,
    budgetPerSecond: config.GATEWAY_ADMISSIONS_PER_SECOND,
    errors,
    logger,
  });
  const sealingSecrets = config.RESUME_SECRET ?? ([config.PRIVATE_API_TOKEN] as const);
  const context: GatewayContext = {
    node,
    verify,
    currentRules,
    broker,
    relay,
    channels,
    sessions,
    sessionStore,
    holdings,
    presence: new Presence({ holdings, rules: currentRules }),
    fleet,
    resumeTokens: new ResumeTokens(sealingSecrets),
    grants: new Grants(sealingSecrets),
    messagesPerSecond: config.GATEWAY_MESSAGES_PER_SECOND,
    errors,
    metrics,
    logger,
  };

  const host = config.GATEWAY_HOST;
  const doorOptions = { host, bodyLimit, errors, closed: metrics.doorClosed, logger };
  const publicDoor = new Door({
    ...doorOptions,
    name: "public",
    port: config.GATEWAY_PORT,
    bounds: capacity.publicDoor,
    vouches: (request) => sockets.isPoll(request),
  });
  const origins = originPolicy(config.GATEWAY_ALLOWED_ORIGINS);
  const trust = trustedProxies(config.TRUSTED_PROXIES);
  const sockets = new SocketServer({
    httpServer: publicDoor.app.server,
    context,
    limits: {
      maxConnections,
      maxUnseated: capacity.maxUnseated,
      sessionsPerUser: config.GATEWAY_SESSIONS_PER_USER,
      address: {
        connections: config.GATEWAY_CONNECTIONS_PER_ADDRESS,
        connectsPerSecond: config.GATEWAY_CONNECTS_PER_ADDRESS,
      },
    },
    trustedProxies: trust,
    transports: config.GATEWAY_TRANSPORTS,
    origins,
    liveness,
  });
  const drain = new Drain({
    sessions: () => sessions.all,
    refuse: () => sockets.refuse(),
    fleet,
    url: config.PUBLIC_URL,
    drainMs: config.GATEWAY_DRAIN_SECONDS * 1000,
    metrics,
    logger,
  });
  const handOver = new HandOver({
    sessions: () => sessions.all,
    accepting: () => sockets.accepting,
    instance,
    fleet,
    url: config.PUBLIC_URL,
    lifetimeMs: config.GATEWAY_SESSION_LIFETIME_SECONDS * 1000,
    errors,
    metrics,
  });
  addBootstrap(publicDoor.app, {
    verify,
    rollouts: currentRollouts,
    fleet,
    ownNode: () => ({
      instance,
      url: config.PUBLIC_URL,
      hasFreeSeat: sockets.accepting && sockets.seats < maxConnections,
    }),
    reconnectPolicy: () => sockets.reconnectPolicy,
    origins,
    trustedProxies: trust,
    counter: metrics.bootstraps,
  });
  const stalledSessions = new StalledSessions({
    sessions: () => sessions.all,
    onStalled: (session) => {
      metrics.slowConsumers.inc({ cause: "stalled" });
      session.terminate("slow_consumer");
    },
    checkMs: liveness.stallCheckMs,
    checks: liveness.stallChecks,
    errors,
  });
  const adminDoor = new Door({
    ...doorOptions,
    name: "admin",
    port: config.GATEWAY_ADMIN_PORT,
    bounds: capacity.adminDoor,
  });
  addHealthRoutes(adminDoor.app, { metrics: registry, checks: healthChecks });
  addLoadRoute(adminDoor.app, describe);

  function healthChecks(): Record<string, HealthStatus> {
    return {
      broker: storeHealth(broker.state),
      rules: currentRules.rules.version > 0 && currentRules.findings.length === 0 ? "ok" : "degraded",
      rollouts: currentRollouts.findings.length === 0 ? "ok" : "degraded",
      privateApi: relay.openLinks > 0 ? "ok" : "degraded",
      accepting: sockets.accepting ? "ok" : "fail",
    };
  }

  const lifecycle = new Lifecycle(logger);
  lifecycle.add("load", load);
  lifecycle.add("admin door", adminDoor);
  lifecycle.add("rules", currentRules);
  lifecycle.add("rollouts", currentRollouts);
  lifecycle.add("relay", relay);
  lifecycle.add("channels", channels);
  lifecycle.add("holdings", holdings);
  lifecycle.add("public door", publicDoor);
  lifecycle.add("sockets", sockets);
  lifecycle.add("fleet", fleet);
  lifecycle.add("stalled sessions", stalledSessions);
  lifecycle.add("hand-over", handOver);
  // The first to be stopped: all of the above goes on until nobody is here any more.
  lifecycle.add("drain", drain);

  return {
    publicDoor,
    adminDoor,
    get sessionCount() {
      return sessions.count;
    },
    get channelCount() {
      return channels.channelCount;
    },
    get openLinks() {
      return relay.openLinks;
    },
    get rulesVersion() {
      return currentRules.rules.version;
    },
    get rolloutsVersion() {
      return currentRollouts.rollouts.version;
    },
    start: async () => {
      await lifecycle.start();
      logger.info({ node, port: publicDoor.port, adminPort: adminDoor.port }, "gateway listening");
    },
    stop: () => lifecycle.stop(),
  };
}

/** Warns where the limit of open files does not allow what the settings ask for. */
function readCapacity(wantedConnections: number, logger: Logger): Capacity {
  const limit = openFilesLimit();
  const capacity = capacityOf(wantedConnections, limit);
  const { wantedFiles: needed, maxConnections, maxUnseated } = capacity;
  if (needed > limit) {
    logger.warn(
      { limit, needed, maxConnections, maxUnseated },
      "the limit of open files is too low for GATEWAY_MAX_CONNECTIONS: raise it (ulimit -n, LimitNOFILE) or lower the setting",
    );
  }
  return capacity;
}
