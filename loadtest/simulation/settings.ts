/** What a run assumes, all of it: the report and the JSON repeat it. Costs come from figures.json. */
import { type ClientKindName, clientKinds } from "./client-kinds.ts";
import type { Figures } from "./figures.ts";

/** What a node's work costs, in µs of CPU. */
export interface Costs {
  /** Upgrade, checks, session, subscribe. */
  readonly coldMicros: number;
  readonly resumeMicros: number;
  /** Upgrade, and a refusal in band. */
  readonly refusalMicros: number;
  /** A 503 at the upgrade. */
  readonly turnedAwayMicros: number;
  readonly deliveryMicros: number;
  /** Of an idle session, each second: pings. */
  readonly idleMicrosPerSecond: number;
}

export interface FleetSettings {
  readonly nodes: number;
  /** A process uses one; several stand for as many processes on one machine that fails as a whole. */
  readonly coresPerNode: number;
  /** Sessions and handshakes under way; none: as many as memory holds. */
  readonly cap: number | undefined;
  /** Connections at which a node runs out of memory and dies. */
  readonly connectionsInMemory: number;
  /** None: whoever comes is let in as fast as the CPU allows. */
  readonly admission: { readonly budgetPerSecond: number } | undefined;
  /** A session can be resumed without asking the services. */
  readonly resume: boolean;
  /** A stopping node sends its sessions away in slots; otherwise all at once. */
  readonly drainSlots: boolean;
  readonly drainSeconds: number;
  /** From the end of a process until its successor is ready. */
  readonly restartSeconds: number;
}

export interface Settings {
  readonly clients: number;
  readonly seed: number;
  readonly kind: ClientKindName;
  readonly coldShare: number;
  /** To each session, each second. */
  readonly deliveriesPerSecond: number;
  /** How long users stay until they leave for good, and others come; 0: for ever. */
  readonly stayMinutes: number;
  readonly fleet: FleetSettings;
  readonly costs: Costs;
  readonly auth: { readonly perSecond: number; readonly maxWaiting: number; readonly timeoutMs: number };
  readonly balancer: {
    readonly policy: "round-robin" | "fewer-of-two";
    /** From a change of a node's health until the balancer acts on it. */
    readonly noticeSeconds: number;
  };
  /** From the decision to dial until the request for an upgrade has reached a node: TCP, TLS, and the way there. */
  readonly dialMs: { readonly least: number; readonly most: number };
  /** The run ends when everybody is back, or here. */
  readonly horizonSeconds: number;
}

/** Sessions per node at the start, against its cap. */
const fullness = 0.8;
/** Connections that fit into a node's memory, against those it has at the start. */
const memoryReserve = 2;
/** What the services can answer, against the admissions that the operator has set by it. */
const authReserve = 1.2;

export interface Shape {
  readonly clients: number;
  readonly nodes: number;
  readonly seed: number;
  readonly kind: ClientKindName;
  readonly budgetPerSecond: number;
}

/** Tidegate as it is built, for a fleet of this shape. */
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
      drainSlots: kind === "slots",
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
