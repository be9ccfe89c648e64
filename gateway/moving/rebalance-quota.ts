/** How many sessions a node moves away because other nodes, such as new ones, are emptier: pure arithmetic. */
import type { FleetNode } from "../../shared/nodes/contract.ts";

/** Rebalancing starts where a node exceeds its part by this fraction of its cap and by this fraction of its part. */
const startOfCap = 0.05;
const startOfPart = 0.1;
/** Once started it continues down to a fifth of that. */
const stopsAt = 0.2;
/** Nodes above this load factor receive no sessions. */
const roomyFactor = 0.9;
/** Part of the fleet's admissions that rebalancing uses; the rest is for clients that connect by themselves. */
const usedAdmissions = 0.1;

type NodeLoad = Pick<FleetNode, "instance" | "state" | "connections" | "maxConnections" | "factor">;

/** Connections beyond the node's part of all connections, by its cap; below 0: the node has room. */
function surplusOf({ connections, maxConnections }: NodeLoad, mean: number): number {
  return connections - mean * maxConnections;
}

/** One node's decision, made after each report. Each node decides by itself, from the same view of the fleet. */
export class RebalanceQuota {
  #active = false;
  /** Sessions that may be asked to move and have not been; less than one after each decision. */
  #credit = 0;

  /**
   * @param fleet.leaving sessions of this node that have been asked to move and are still here.
   * @param fleet.gone sessions that have left, and may be missing from every report yet.
   * @returns how many more sessions to ask now.
   */
  next(fleet: {
    nodes: readonly NodeLoad[];
    instance: string;
    leaving: number;
    gone: number;
    budgetPerSecond: number;
    elapsedMs: number;
  }): number {
    const { nodes, instance, leaving, gone, budgetPerSecond, elapsedMs } = fleet;
    const own = nodes.find((node) => node.instance === instance);
    const caps = nodes.reduce((sum, { maxConnections }) => sum + maxConnections, 0);
    const mean = nodes.reduce((sum, { connections }) => sum + connections, gone) / caps;
    // A draining node moves all its sessions: they come first.
    const noneDrains = nodes.every(({ state }) => state === "ready");
    const hasRoom = nodes.some((node) => surplusOf(node, mean) < 0 && node.factor < roomyFactor);
    if (!own || !noneDrains || !hasRoom) {
      this.#active = false;
      return 0;
    }
    const start = Math.max(startOfCap * own.maxConnections, startOfPart * mean * own.maxConnections);
    const surplus = surplusOf(own, mean) - leaving;
    this.#active = surplus > (this.#active ? stopsAt * start : start);
    if (!this.#active) return 0;
    const total = nodes.reduce((sum, node) => sum + Math.max(0, surplusOf(node, mean)), 0);
    const perSecond = (usedAdmissions * budgetPerSecond * (surplus + leaving)) / total;
    this.#credit = (this.#credit % 1) + (perSecond * elapsedMs) / 1000;
    const asked = Math.max(0, Math.floor(Math.min(this.#credit, surplus)));
    this.#credit -= asked;
    return asked;
  }
}
