/** All assumptions of a run; the report and the JSON repeat them. Costs come from figures.json. */
import { type ClientKindName, clientKinds } from "./client-kinds.ts";
import type { Figures } from "./figures.ts";

/** Costs of a node's work, in µs of CPU. */
export interface Costs {
  /** Upgrade, checks, session, subscribe. */
  readonly coldMicros: number;
  readonly resumeMicros: number;
  /** Upgrade, and a refused handshake. */
  readonly refusalMicros: number;
  /** A 503 at the upgrade. */
  readonly turnedAwayMicros: number;
  readonly deliveryMicros: number;
  /** Pings of an idle session, per second. */
  readonly idleMicrosPerSecond: number;
}

export interface FleetSettings {
  readonly nodes: number;
  /** One process uses one core; several stand for as many processes on one machine that fails as a whole. */
  readonly coresPerNode: number;
  /** Limit of sessions and handshakes under way; undefined: memory alone limits them. */
  readonly cap: number | undefined;
  /** Connections at which a node runs out of memory and dies. */
  readonly connectionsInMemory: number;
  /** Undefined: the node admits as fast as its CPU allows. */
  readonly admission: { readonly budgetPerSecond: number } | undefined;
  /** Clients can resume sessions, which calls no service. */
  readonly resume: boolean;
  /** A stopping node gives its sessions reconnect times; otherwise it closes all at once. */
  readonly spreadDrain: boolean;
  readonly drainSeconds: number;
  /** From the end of a process until its successor is ready. */
  readonly restartSeconds: number;
}

export interface Settings {
  readonly clients: number;
  readonly seed: number;
  readonly kind: ClientKindName;
  readonly coldShare: number;
  /** To each session. */
  readonly deliveriesPerSecond: number;
  /** Average stay of a user before another one takes its place; 0: users stay. */
  readonly stayMinutes: number;
  readonly fleet: FleetSettings;
  readonly costs: Costs;
  readonly auth: { readonly perSecond: number; readonly maxWaiting: number; readonly timeoutMs: number };
  readonly balancer: {
    readonly policy: "round-robin" | "fewer-of-two";
    /** From a change of a node's health until the balancer acts on it. */
    readonly noticeSeconds: number;
  };
  /** From the dial until the upgrade request reaches a node: TCP, TLS, network. */
  readonly dialMs: { readonly least: number; readonly most: number };
  /** The run ends when every client is back, or at this time. */
  readonly horizonSeconds: number;
}

/** Sessions per node at the start, as a share of its cap. */
const fullness = 0.8;
/** Connections that fit into a node's memory, as a multiple of those at the start. */
const memoryReserve = 2;
/** Calls that the services can answer, as a multiple of the admissions. */
const authReserve = 1.2;

export interface Shape {
  readonly clients: number;
  readonly nodes: number;
  readonly seed: number;
  readonly kind: ClientKindName;
  readonly budgetPerSecond: number;
}

/** Tidegate with all its mechanisms, for a fleet of this shape. */
export function defaultSettings({ clients, nodes, seed, kind, budgetPerSecond }: Shape, { costs }: Figures): Settings {
  const sessionsPerNode = clients / nodes;
  const authPerSecond = budgetPerSecond * authReserve;
  return {
    clients,
    seed,
    kind,
    coldShare: clientKinds[kind].resumes ? 0.05 : 1,
    deliveriesPerSecond: 0.5,
    stayMinutes: 0,
    fleet: {
      nodes,
      coresPerNode: 1,
      cap: Math.ceil(sessionsPerNode / fullness),
      connectionsInMemory: Math.ceil(sessionsPerNode * memoryReserve),
      admission: { budgetPerSecond },
      resume: clientKinds[kind].resumes,
      spreadDrain: kind === "slots",
      drainSeconds: 60,
      restartSeconds: 10,
    },
    costs,
    auth: { perSecond: authPerSecond, maxWaiting: authPerSecond * 10, timeoutMs: 5_000 },
    balancer: { policy: "fewer-of-two", noticeSeconds: 5 },
    dialMs: { least: 50, most: 250 },
    horizonSeconds: 3_600,
  };
}
