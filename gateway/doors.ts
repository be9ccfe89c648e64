/** Second step of a gateway node: the public door with its websockets, the admin door, and how full the node is. */
import { Door, type DoorOptions } from "../shared/http/door.ts";
import { addHealthRoutes, cellHealth, type HealthStatus, storeHealth } from "../shared/http/health.ts";
import { admissionWeight } from "../shared/load/admission-weight.ts";
import type { NodeReport } from "../shared/nodes/contract.ts";
import { addBootstrap } from "./bootstrap/bootstrap.ts";
import type { Capacity } from "./capacity.ts";
import type { GatewayConfig } from "./config.ts";
import { defaultLiveness } from "./engine/liveness.ts";
import { SocketServer, type SocketServerOptions } from "./engine/socket-server.ts";
import { originPolicy } from "./entrance/allowed-origins.ts";
import { trustedProxies } from "./entrance/client-address.ts";
import { Hooks, type HooksOptions } from "./hooks/hooks.ts";
import { addLoadRoute } from "./load/load-route.ts";
import { NodeLoad } from "./load/node-load.ts";
import type { GatewayContext } from "./node/context.ts";
import { knowsRules } from "./node/known-rules.ts";
import type { RelayClient } from "./relay/relay-client.ts";
import { type GatewayOptions, type NodeState, queuedBytes } from "./node-state.ts";

/** No body or message that the doors accept is larger, webhooks aside. */
const bodyLimit = 64 * 1024;

export interface Doors {
  readonly publicDoor: Door;
  readonly adminDoor: Door;
  readonly sockets: SocketServer;
  readonly load: NodeLoad;
}

export function createDoors(options: GatewayOptions, state: NodeState): Doors {
  const { config } = options;
  const { context, capacity, instance } = state;
  const { fleet, metrics, errors, logger } = context;
  const common = { host: config.GATEWAY_HOST, bodyLimit, errors, closed: metrics.doorClosed, logger };
  const publicDoor = new Door({ ...common, name: "public", port: config.GATEWAY_PORT, bounds: capacity.publicDoor });
  const access = {
    origins: originPolicy(config.GATEWAY_ALLOWED_ORIGINS),
    trustedProxies: trustedProxies(config.TRUSTED_PROXIES),
  };
  const sockets = new SocketServer({
    httpServer: publicDoor.app.server,
    context,
    limits: limitsOf(config, capacity),
    ...access,
    transports: config.GATEWAY_TRANSPORTS,
    liveness: options.liveness ?? defaultLiveness,
  });
  publicDoor.exempt((request) => sockets.isPoll(request));
  metrics.observe({
    seats: () => sockets.entrance.seats.taken,
    handshakes_waiting: () => sockets.entrance.admission.waiting,
    upgrades_waiting: () => sockets.entrance.gate.waiting,
  });
  const load = createLoad(state, sockets);
  const describe = (): NodeReport => nodeReport(config, state, { sockets, load });
  fleet.describeBy(describe);
  addBootstrap(publicDoor.app, {
    ...access,
    verify: context.verify,
    rollouts: state.currentRollouts,
    fleet,
    ownNode: () => ({
      instance,
      url: config.PUBLIC_URL,
      hasFreeSeat: sockets.accepting && sockets.entrance.seats.taken < capacity.maxConnections,
    }),
    reconnectPolicy: () => sockets.entrance.reconnectPolicy.current,
    counter: metrics.bootstraps,
  });
  addHooks(config, state, { publicDoor, sockets, trustedProxies: access.trustedProxies });
  const adminOptions = {
    ...common,
    name: "admin",
    host: config.GATEWAY_ADMIN_HOST ?? config.GATEWAY_HOST,
    port: config.GATEWAY_ADMIN_PORT,
    bounds: capacity.adminDoor,
  };
  const adminDoor = createAdminDoor({ ...adminOptions, cellMaps: options.cellMaps }, state, sockets);
  addLoadRoute(adminDoor.app, describe);
  return { publicDoor, adminDoor, sockets, load };
}

function addHooks(
  config: GatewayConfig,
  { context, sources, journal }: NodeState,
  { publicDoor, sockets, trustedProxies }: Pick<Doors, "publicDoor" | "sockets"> & Pick<HooksOptions, "trustedProxies">,
): void {
  const hooks = new Hooks({
    door: publicDoor,
    context,
    sources,
    journal,
    maxBytes: config.HOOKS_MAX_BYTES,
    publicUrl: config.PUBLIC_URL,
    trustedProxies,
    accepting: () => sockets.accepting,
  });
  hooks.serve();
  context.metrics.observe({ webhook_bytes: () => hooks.heldBytes });
}

function limitsOf(config: GatewayConfig, { maxConnections, maxUnseated }: Capacity): SocketServerOptions["limits"] {
  return {
    maxConnections,
    maxUnseated,
    sessionsPerUser: config.GATEWAY_SESSIONS_PER_USER,
    address: {
      connections: config.GATEWAY_CONNECTIONS_PER_ADDRESS,
      connectsPerSecond: config.GATEWAY_CONNECTS_PER_ADDRESS,
    },
  };
}

function createLoad({ context, capacity }: NodeState, sockets: SocketServer): NodeLoad {
  const { sessions, fleet, metrics, errors } = context;
  const load = new NodeLoad(
    () => ({
      connections: sockets.entrance.seats.taken,
      maxConnections: capacity.maxConnections,
      queuedBytes: queuedBytes(sessions),
      admissionsPerSecond: sockets.entrance.admission.demandPerSecond,
      admissionRate: fleet.sharePerSecond,
    }),
    errors,
  );
  metrics.observe({ load_factor: () => load.factor });
  metrics.observeDimensions(() => load.dimensions);
  return load;
}

function nodeReport(
  config: GatewayConfig,
  { context, capacity, drainProgress, instance, startedAt }: NodeState,
  { sockets, load }: Pick<Doors, "sockets" | "load">,
): NodeReport {
  const { accepting } = sockets;
  const { maxConnections } = capacity;
  return {
    node: context.node,
    instance,
    state: accepting ? "ready" : "draining",
    startedAt,
    ...(config.PUBLIC_URL !== undefined && { url: config.PUBLIC_URL }),
    connections: sockets.entrance.seats.taken,
    maxConnections,
    factor: load.factor,
    dimensions: load.dimensions,
    idleMemory: load.idleMemory,
    admissionWeight: admissionWeight({
      draining: !accepting,
      // Waiting handshakes hold seats already, and the share is for them: only sessions count as taken here.
      freeSeats: maxConnections - context.sessions.count,
      dimensions: load.dimensions,
    }),
    ...(drainProgress.report && { drain: drainProgress.report }),
  };
}

function createAdminDoor(
  options: DoorOptions & Pick<GatewayOptions, "cellMaps">,
  state: NodeState,
  sockets: SocketServer,
): Door {
  const door = new Door(options);
  const { sources, journal, context } = state;
  const { broker, relay } = context;
  const checks = (): Record<string, HealthStatus> => ({
    broker: storeHealth(broker.state),
    ...cellHealth(options.cellMaps.states),
    rules: rulesHealth(context),
    rollouts: state.currentRollouts.findings.length === 0 ? "ok" : "degraded",
    sources: sources.flaws.length === 0 ? "ok" : "degraded",
    journal: sources.unjournaled.length === 0 && (journal?.items ?? 0) === 0 ? "ok" : "degraded",
    privateApi: relayHealth(relay),
    accepting: sockets.accepting ? "ok" : "fail",
  });
  const details = (): object => ({
    ...(journal && { journal: { bytes: journal.bytes, items: journal.items, oldestMs: journal.oldestMs } }),
    ...(relay.refusals.length > 0 && { refusals: relay.refusals }),
  });
  addHealthRoutes(door.app, { metrics: state.metricsRegistry, checks, details });
  return door;
}

function rulesHealth(context: GatewayContext): HealthStatus {
  if (!knowsRules(context)) return "fail";
  return context.currentRules.findings.length === 0 ? "ok" : "degraded";
}

/** A node whose token no private API accepts is set up wrong. While none is in reach, queues, webhooks and channels work. */
function relayHealth(relay: RelayClient): HealthStatus {
  if (relay.openLinks > 0) return "ok";
  return relay.refusals.length > 0 ? "fail" : "degraded";
}
