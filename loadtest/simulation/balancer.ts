/** A load balancer: sends each dial to a node that it believes healthy, and notices changes some seconds late. */
import type { GatewayNode } from "./gateway-node.ts";
import type { SeededRandom } from "./random.ts";
import type { Settings } from "./settings.ts";
import { tickMs } from "./timers.ts";

export class Balancer {
  readonly #options: Settings["balancer"];
  readonly #random: SeededRandom;
  readonly #changes: { at: number; node: GatewayNode; healthy: boolean }[] = [];
  #healthy: GatewayNode[];
  #turn = 0;

  constructor(nodes: readonly GatewayNode[], options: Settings["balancer"], random: SeededRandom) {
    this.#healthy = [...nodes];
    this.#options = options;
    this.#random = random;
  }

  /** The health of a node changes; the balancer acts on it `noticeSeconds` later. */
  changed(node: GatewayNode, healthy: boolean, now: number): void {
    this.#changes.push({ at: now + (this.#options.noticeSeconds * 1_000) / tickMs, node, healthy });
  }

  tick(now: number): void {
    for (let first = this.#changes[0]; first && first.at <= now; first = this.#changes[0]) {
      this.#changes.shift();
      const { node, healthy } = first;
      this.#healthy = this.#healthy.filter((other) => other !== node);
      if (healthy) this.#healthy.push(node);
    }
  }

  /** @returns undefined where it knows no healthy node. */
  pick(): GatewayNode | undefined {
    const count = this.#healthy.length;
    if (count === 0) return undefined;
    if (this.#options.policy === "round-robin") return this.#healthy[this.#turn++ % count];
    const one = this.#healthy[this.#random.below(count)];
    const other = this.#healthy[this.#random.below(count)];
    return one && other && one.connections > other.connections ? other : one;
  }
}
