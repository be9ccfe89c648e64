/** A gateway node, composed in three steps: what it knows and holds, its doors, and what moves its sessions to other nodes. */
import type { Door } from "../shared/http/door.ts";
import { Lifecycle, type Service } from "../shared/runtime/lifecycle.ts";
import { HeldByNode } from "./commands/list-held.ts";
import { createDoors, type Doors } from "./doors.ts";
import { defaultLiveness } from "./engine/liveness.ts";
import { Drain } from "./moving/drain.ts";
import { Rebalancer } from "./moving/rebalancer.ts";
import { createNodeState, type GatewayOptions, type NodeState } from "./node-state.ts";
import { StalledSessions } from "./sessions/stalled-sessions.ts";

export interface Gateway extends Service {
  /** A program may add routes to its app before the start. */
  readonly publicDoor: Door;
  readonly adminDoor: Door;
}

export function createGateway(options: GatewayOptions): Gateway {
  const state = createNodeState(options);
  const doors = createDoors(options, state);
  const { drain, rebalancer } = createMoving(options, state, doors);
  const { publicDoor, adminDoor } = doors;
  const { context, currentRollouts, sessionEvents, journal } = state;
  const { logger } = context;
  const lifecycle = new Lifecycle(logger);
  lifecycle.add("load", doors.load);
  lifecycle.add("admin door", adminDoor);
  lifecycle.add("rules", context.currentRules);
  lifecycle.add("rollouts", currentRollouts);
  lifecycle.add("relay", context.relay);
  lifecycle.add("channels", context.channels);
  lifecycle.add("session events", sessionEvents);
  lifecycle.add("holdings", context.holdings);
  if (journal) lifecycle.add("journal", journal);
  lifecycle.add("public door", publicDoor);
  lifecycle.add("sockets", doors.sockets);
  lifecycle.add("fleet", context.fleet);
  lifecycle.add("inventory", createHeldByNode(options, state));
  lifecycle.add("stalled sessions", createStalledSessions(options, state));
  lifecycle.add("rebalancer", rebalancer);
  // Last, so that it stops first: everything above serves sessions until they are gone.
  lifecycle.add("drain", drain);
  return {
    publicDoor,
    adminDoor,
    start: async () => {
      await lifecycle.start();
      logger.info({ node: context.node, port: publicDoor.port, adminPort: adminDoor.port }, "gateway listening");
    },
    stop: () => lifecycle.stop(),
  };
}

function createMoving(
  { config }: GatewayOptions,
  { context, drainProgress, instance, sources }: NodeState,
  { sockets }: Doors,
): { drain: Drain; rebalancer: Rebalancer } {
  const { sessions, fleet, errors, metrics, logger } = context;
  const common = { sessions: () => sessions.all, fleet, url: config.PUBLIC_URL, metrics };
  const drainMs = config.GATEWAY_DRAIN_SECONDS * 1000;
  const lifetimeMs = config.GATEWAY_SESSION_LIFETIME_SECONDS * 1000;
  return {
    drain: new Drain({
      ...common,
      refuse: () => sockets.refuse(),
      accept: () => sockets.accept(),
      receives: () => sources.count > 0,
      progress: drainProgress,
      drainMs,
      logger,
    }),
    rebalancer: new Rebalancer({ ...common, accepting: () => sockets.accepting, instance, lifetimeMs, errors }),
  };
}

function createHeldByNode({ inventory }: GatewayOptions, { context, instance }: NodeState): HeldByNode {
  const { channels, sessions } = context;
  return new HeldByNode({ inventory, instance, channels, sessions });
}

function createStalledSessions(
  { liveness = defaultLiveness }: GatewayOptions,
  { context }: NodeState,
): StalledSessions {
  const { sessions, metrics, errors } = context;
  return new StalledSessions({
    sessions: () => sessions.all,
    onStalled: (session) => {
      metrics.slowConsumers.inc({ cause: "stalled" });
      session.terminate("slow_consumer");
    },
    checkMs: liveness.stallCheckMs,
    checks: liveness.stallChecks,
    errors,
  });
}
