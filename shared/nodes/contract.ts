/**
 * The contract between gateways, the private API and the registry of nodes: who there is, how full each is, who is to
 * drain, and how many connections each may let in. Two implementations, memory-registry.ts and redis-registry.ts, pass the
 * same suite (test/contract/node-registry-suite.ts).
 *
 * A node reports about once a second. One that has not for {@link reportLastsMs} is gone.
 *
 * The fleet lets in so many connections a second, the budget. Each report asks for a share of it, by the node's weight
 * among those of all (shares.ts). Every implementation MUST
 * - never let the shares that are in force exceed the budget, whoever joins, leaves or dies, and while its memory is lost:
 *   who joins gets some of what is free, and the rest as soon as the others have been given less;
 * - keep a share in force until the node says that it holds another, has left, or is gone;
 * - fail with `broker_unavailable` within a bounded time when the registry cannot be asked.
 */
import type { Dimensions } from "../load/dimensions.ts";
import type { Service } from "../runtime/lifecycle.ts";

/** What a node says of itself. */
export interface NodeReport {
  /** As it is called; two nodes may be called the same. */
  node: string;
  /** Of the process: a node that was restarted is another. */
  instance: string;
  state: "ready" | "draining";
  /** Unix ms. */
  startedAt: number;
  /** Where clients reach it, if not only through a balancer. */
  url?: string;
  /** Seats that are taken: sessions, and handshakes under way. */
  connections: number;
  maxConnections: number;
  /** 1.0 is at target. */
  factor: number;
  dimensions: Dimensions;
  /** Of `dimensions.memory`: what it took before it had a session. */
  idleMemory: number;
  /** What it can take of the fleet's admissions, against what the others can; 0: nothing. */
  admissionWeight: number;
  drain?: DrainReport;
}

/** How far a node has come with sending its sessions elsewhere. */
export interface DrainReport {
  /** Unix ms. */
  startedAt: number;
  /** Unix ms; absent while it goes on. */
  endedAt?: number;
  /** There were when it began. Once it has ended each is in one of the following. */
  sessions: number;
  /** Went elsewhere first, and left afterwards. */
  moved: number;
  /** Were closed in order, in their slot: they took all that waited for them, and why. */
  closed: number;
  /** Were there still at the deadline. */
  forced: number;
  /** Broke, or did not take what waited for them. */
  lost: number;
  /** Left by themselves, or were told to for another reason. */
  left: number;
}

/** A node as the others see it. */
export interface FleetNode extends NodeReport {
  /** Connections it may let in each second. */
  sharePerSecond: number;
}

/** How many connections the fleet lets in each second, and how many of them are this node's, as far as it knows. */
export interface ShareRequest {
  budgetPerSecond: number;
  /** The share it works with: what a registry that has lost its memory goes by. Undefined: it begins, and lets nobody in yet. */
  heldPerSecond: number | undefined;
}

export interface ReportAnswer {
  sharePerSecond: number;
  /** Somebody has told the node to drain. */
  drainOrdered: boolean;
  /** Itself included, in the order of their names. Who there is, and in which state, is as of now; of a large fleet the rest may be some seconds old. */
  nodes: readonly FleetNode[];
}

export interface NodeRegistry extends Service {
  report(report: NodeReport, request: ShareRequest): Promise<ReportAnswer>;
  /** It stops. Its share is free at once. */
  leave(instance: string): Promise<void>;
  /** All that are not gone, in the order of their names. */
  nodes(): Promise<readonly FleetNode[]>;
  /** Told with the next report. @returns how many there are that are called so. */
  orderDrain(node: string): Promise<number>;
}

/** A node that has said nothing for so long is gone. */
export const reportLastsMs = 5_000;
