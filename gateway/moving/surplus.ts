/** How many sessions a node hands over because others are emptier, for instance new: pure arithmetic. */
import type { FleetNode } from "../../shared/nodes/contract.ts";

/** It begins where a node has more than its part by this much of its cap, and by this much of its part. */
const beginOfCap = 0.05;
const beginOfPart = 0.1;
/** Once begun it goes on down to a fifth of that. */
const endsAt = 0.2;
/** Nobody who is fuller than this is given anything. */
const roomyFactor = 0.9;
/** Of the fleet's admissions; the rest is for whoever comes by itself. */
const usedAdmissions = 0.1;

type Standing = Pick<FleetNode, "instance" | "state" | "connections" | "maxConnections" | "factor">;

/** What a node has beyond its part of all connections, by its cap; below 0: what it lacks. */
function surplusOf({ connections, maxConnections }: Standing, mean: number): number {
  return connections - mean * maxConnections;
}

/** One node's decision, again and again. Each node decides by itself, of the same fleet. */
export class Surplus {
  #gives = false;
  /** Sessions that it may ask and has not, less than one. */
  #credit = 0;

  /**
   * @param fleet.leaving sessions of this node that were asked before, and are still here.
   * @param fleet.gone those that have left, and may be in nobody's report yet.
   * @returns how many more to ask now.
   */
  decide(fleet: {
    nodes: readonly Standing[];
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
    // A node that drains gives all it has: its sessions come first.
    const isQuiet = nodes.every(({ state }) => state === "ready");
    const hasRoom = nodes.some((node) => surplusOf(node, mean) < 0 && node.factor < roomyFactor);
    if (!own || !isQuiet || !hasRoom) {
      this.#gives = false;
      return 0;
    }
    const most = Math.max(beginOfCap * own.maxConnections, beginOfPart * mean * own.maxConnections);
    const surplus = surplusOf(own, mean) - leaving;
    this.#gives = surplus > (this.#gives ? endsAt * most : most);
    if (!this.#gives) return 0;
    const given = nodes.reduce((sum, node) => sum + Math.max(0, surplusOf(node, mean)), 0);
    const perSecond = (usedAdmissions * budgetPerSecond * (surplus + leaving)) / given;
    this.#credit = (this.#credit % 1) + (perSecond * elapsedMs) / 1000;
    const asked = Math.max(0, Math.floor(Math.min(this.#credit, surplus)));
    this.#credit -= asked;
    return asked;
  }
}
