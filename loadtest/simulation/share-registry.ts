/**
 * Shares the fleet's budget among the nodes: the rule of shared/nodes/shares.ts, in the order of shared/nodes/report.lua.
 * Each node reports once a second. The share of a dead process stays in force until its last report expires.
 */
import { reconnectPolicy } from "../../gateway/entrance/reconnect-window.ts";
import { reportLastsMs } from "../../shared/nodes/contract.ts";
import { budgetParts, fairSharePerSecond, fromUnits, nextShare } from "../../shared/nodes/shares.ts";
import type { GatewayNode } from "./gateway-node.ts";
import { tickMs } from "./timers.ts";

const beatTicks = 1_000 / tickMs;
/** After this time without any report, the known shares may be outdated (shared/nodes/redis.ts). */
const silentTicks = 3_000 / tickMs;
const goneTicks = reportLastsMs / tickMs;

interface Entry {
  units: number;
  weight: number;
  heardAt: number;
  /** Identifies the process: a restarted node joins as a new one. */
  startedAt: number;
}

export class ShareRegistry {
  readonly #nodes: readonly GatewayNode[];
  readonly #budgetPerSecond: number;
  readonly #entries = new Map<string, Entry>();
  #heardAt = 0;
  #settledAt = 0;
  #blind = 0;

  constructor(nodes: readonly GatewayNode[], budgetPerSecond: number) {
    this.#nodes = nodes;
    this.#budgetPerSecond = budgetPerSecond;
  }

  /** Long before the run: every node has its fair share. */
  settle(): void {
    for (let round = 0; round < 20; round++) {
      for (const node of this.#nodes) this.#report(node, 0);
    }
  }

  /** The reports of this tick: each node reports at its own tick of each second. */
  tick(now: number): void {
    for (let number = now % beatTicks; number < this.#nodes.length; number += beatTicks) {
      const node = this.#nodes[number];
      if (node?.state === "up" || node?.state === "draining") this.#report(node, now);
    }
  }

  /** The node reports its stop: its share is free at once. */
  leaves(node: GatewayNode): void {
    this.#entries.delete(keyOf(node));
  }

  /** The sum of all shares in force, per second. */
  get inForcePerSecond(): number {
    return fromUnits(this.#sum(({ units }) => units));
  }

  #report(node: GatewayNode, now: number): void {
    const budget = budgetParts(this.#budgetPerSecond);
    if (this.#entries.size > 0 && now - this.#heardAt > silentTicks) {
      this.#settledAt = now + goneTicks;
      this.#blind = 0;
    }
    const isSettled = now >= this.#settledAt;
    if (isSettled) {
      for (const [key, { heardAt }] of this.#entries) {
        if (heardAt <= now - goneTicks && now > 0) this.#entries.delete(key);
      }
    }
    const key = keyOf(node);
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    const weight = node.state === "up" ? node.freeSeats : 0;
    const weights = this.#sum((entry) => entry.weight) + weight;
    const held = known?.units ?? 0;
    let units = nextShare({
      budget,
      weight,
      weights,
      othersInForce: isSettled ? this.#sum((entry) => entry.units) : 0,
      joins: !known && isSettled,
    });
    if (!isSettled && held > 0) units = Math.min(units, held);
    else if (!isSettled) {
      units = Math.min(units, Math.floor(Math.max(0, budget.blind - this.#blind) / 2));
      this.#blind += units;
    }
    this.#entries.set(key, { units, weight, heardAt: now, startedAt: node.startedAt });
    this.#heardAt = now;
    const fair = fairSharePerSecond(this.#budgetPerSecond, weight, weights);
    node.setShare({ sharePerSecond: fromUnits(units), fairSharePerSecond: fair, nodes: this.#entries.size }, now);
    node.windowMs = reconnectPolicy(node.sessions, this.#budgetPerSecond).windowMs;
  }

  #sum(of: (entry: Entry) => number): number {
    let sum = 0;
    for (const entry of this.#entries.values()) sum += of(entry);
    return sum;
  }
}

function keyOf({ number, startedAt }: GatewayNode): string {
  return `${number}/${startedAt}`;
}
