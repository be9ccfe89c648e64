/**
 * How the nodes share the fleet's budget: as shared/nodes/registry.ts asks of every implementation. Each node reports once a
 * second; what is not in force anywhere is free; the share of a node that died stays in force until its report is too old.
 */
import { reportLastsMs } from "../../shared/nodes/registry.ts";
import type { GatewayNode } from "./gateway-node.ts";
import { tickMs } from "./timers.ts";

const beatTicks = 1_000 / tickMs;
const minWindowMs = 1_000;
const maxWindowMs = 600_000;
/** Of the others' rate, what the return of one node's clients may take. */
const windowShare = 0.7;

export class ShareRegistry {
  readonly #nodes: readonly GatewayNode[];
  readonly #budgetPerSecond: number;
  /** By node; of a process that is gone, too, until then (ticks). */
  readonly #inForce: Float64Array;
  readonly #left: { perSecond: number; until: number }[] = [];

  constructor(nodes: readonly GatewayNode[], budgetPerSecond: number) {
    this.#nodes = nodes;
    this.#budgetPerSecond = budgetPerSecond;
    this.#inForce = new Float64Array(nodes.length);
  }

  /** Long before the run. */
  settle(): void {
    for (const node of this.#nodes) this.#give(node, this.#wanted(node));
    for (const node of this.#nodes) node.windowMs = this.windowMs(node);
  }

  /** The reports of this tick: each node has a tick of its own in each second. */
  tick(now: number): void {
    while ((this.#left[0]?.until ?? Infinity) <= now) this.#left.shift();
    for (let number = now % beatTicks; number < this.#nodes.length; number += beatTicks) {
      const node = this.#nodes[number];
      if (node?.state !== "up" && node?.state !== "draining") continue;
      const held = this.#inForce[number] ?? 0;
      this.#give(node, Math.min(this.#wanted(node), held + Math.max(0, this.#budgetPerSecond - this.total)));
      node.windowMs = this.windowMs(node);
    }
  }

  /** A process is gone. @param leaves it says so: its share is free at once. */
  gone(node: GatewayNode, now: number, leaves: boolean): void {
    const perSecond = this.#inForce[node.number] ?? 0;
    this.#inForce[node.number] = 0;
    if (!leaves) this.#left.push({ perSecond, until: now + reportLastsMs / tickMs });
  }

  /** All shares that are in force. */
  get total(): number {
    return this.#left.reduce(
      (sum, { perSecond }) => sum + perSecond,
      this.#inForce.reduce((sum, share) => sum + share, 0),
    );
  }

  /** For the sessions of a node, if they all had to go elsewhere. */
  windowMs(node: GatewayNode): number {
    const own = this.#inForce[node.number] ?? 0;
    const others = this.#inForce.reduce((sum, share) => sum + share, 0) - own;
    const perSecond = windowShare * (others > 0 ? others : own);
    const windowMs = perSecond > 0 ? (node.sessions / perSecond) * 1_000 : maxWindowMs;
    return Math.min(maxWindowMs, Math.max(minWindowMs, windowMs));
  }

  #wanted(node: GatewayNode): number {
    const weight = (of: GatewayNode): number => (of.state === "up" ? of.freeSeats : 0);
    const weights = this.#nodes.reduce((sum, other) => sum + weight(other), 0);
    return weights > 0 ? (this.#budgetPerSecond * weight(node)) / weights : 0;
  }

  #give(node: GatewayNode, perSecond: number): void {
    this.#inForce[node.number] = perSecond;
    node.pace.perSecond = perSecond;
  }
}
