/**
 * The contract between gateways, the private API and the registry of nodes: their load, orders to drain, and their shares of the
 * admission budget. Both implementations, memory.ts and redis.ts, pass the same suite (test/contract/node-registry-suite.ts).
 *
 * A node reports about once a second. A node without a report for {@link reportLastsMs} is gone.
 *
 * The budget is the number of connections that the fleet admits per second. Each report requests a share of it, by the node's
 * weight among all nodes (shares.ts). Every implementation MUST
 * - keep the sum of the shares in force within the budget, whichever nodes join, leave or die, even after it lost its memory:
 *   a joining node gets part of the free budget at once, and the rest once the other nodes' shares have shrunk;
 * - keep a share in force until the node reports another one, leaves, or is gone;
 * - fail with `broker_unavailable` within a bounded time when the registry is out of reach.
 */
import { type Static, Type } from "typebox";
import type { Dimensions } from "../load/dimensions.ts";

/** The state of a node, reported by itself. */
export interface NodeReport {
  /** Not unique: two nodes may have the same name. */
  node: string;
  /** Unique per process: a restarted node has another one. */
  instance: string;
  state: "ready" | "draining";
  /** Unix ms. */
  startedAt: number;
  /** The node's own address for clients, if it has one. */
  url?: string;
  /** Seats taken: sessions, and handshakes under way. */
  connections: number;
  maxConnections: number;
  /** Load factor; 1.0 is at target. */
  factor: number;
  dimensions: Dimensions;
  /** The part of `dimensions.memory` used before the first session. */
  idleMemory: number;
  /** Relative to the other nodes; 0: the node takes no admissions. */
  admissionWeight: number;
  drain?: DrainReport;
}

const count = Type.Integer({ minimum: 0 });

/** Progress of a drain. */
export const DrainReport = Type.Object({
  startedAt: Type.Integer({ description: "Unix ms" }),
  endedAt: Type.Optional(Type.Integer({ description: "Unix ms; absent while the drain runs" })),
  sessions: Type.Integer({ minimum: 0, description: "At the beginning. Later each counts in one of the others" }),
  /** Connected elsewhere first, then left. */
  moved: count,
  /** Closed at their reconnect time, after everything queued for them was delivered. */
  closed: count,
  /** Still connected at the deadline. */
  forced: count,
  /** Connection broke, or the client did not read what was queued for it. */
  lost: count,
  /** Disconnected by themselves or for another reason. */
  left: count,
});
export type DrainReport = Static<typeof DrainReport>;

/** A node as other nodes see it. */
export interface FleetNode extends NodeReport {
  /** Connections that the node may admit per second. */
  sharePerSecond: number;
}

/** Connections that the fleet admits per second, and the node's current share. */
export interface ShareRequest {
  budgetPerSecond: number;
  /** The share in use: a registry that lost its memory relies on it. Undefined: the node just started and admits nothing yet. */
  heldPerSecond: number | undefined;
}

/** By an operator: to drain, or to call a drain off. */
export type NodeOrder = "drain" | "undrain";

export interface ReportAnswer {
  sharePerSecond: number;
  /** The newest one; undefined before the first. A registry that lost its memory knows none. */
  order: NodeOrder | undefined;
  /** Ordered by name, including the node itself. Existence and state are current; in a large fleet the rest may be seconds old. */
  nodes: readonly FleetNode[];
}

export interface NodeRegistry {
  report(report: NodeReport, request: ShareRequest): Promise<ReportAnswer>;
  /** Call when the node stops: its share is free at once. */
  leave(instance: string): Promise<void>;
  /** All nodes that are not gone, ordered by name. */
  nodes(): Promise<readonly FleetNode[]>;
  /** Takes effect with the next report. @returns the number of nodes with that name. */
  order(node: string, order: NodeOrder): Promise<number>;
}

/** A node without a report for this long is gone. */
export const reportLastsMs = 5_000;
