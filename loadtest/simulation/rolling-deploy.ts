/** Restarts one node after the other: drain, end, start, and the next once the successor takes clients. */
import type { GatewayNode } from "./gateway-node.ts";
import type { Settings } from "./settings.ts";
import { tickMs } from "./timers.ts";

const ticksPerSecond = 1_000 / tickMs;
/** Of the drain time, what the balancer may take to send nobody here any more. */
const balancerShare = 0.25;

export interface DeploySteps {
  /** Not ready any more. */
  drains(node: GatewayNode): void;
  ends(node: GatewayNode): void;
}

type Phase = "next" | "balancer" | "slots" | "restart";

export class RollingDeploy {
  readonly #settings: Settings;
  readonly #nodes: readonly GatewayNode[];
  readonly #steps: DeploySteps;
  #current = 0;
  #phase: Phase = "next";
  #since: number;

  constructor(at: number, settings: Settings, nodes: readonly GatewayNode[], steps: DeploySteps) {
    this.#since = at;
    this.#settings = settings;
    this.#nodes = nodes;
    this.#steps = steps;
  }

  get running(): boolean {
    return this.#current < this.#nodes.length;
  }

  tick(now: number): void {
    const node = this.#nodes[this.#current];
    if (!node || now < this.#since) return;
    const { drainSeconds, drainSlots, restartSeconds } = this.#settings.fleet;
    const { noticeSeconds } = this.#settings.balancer;
    const inPhase = (now - this.#since) / ticksPerSecond;
    switch (this.#phase) {
      case "next":
        node.state = "draining";
        this.#steps.drains(node);
        return this.#enter("balancer", now);
      case "balancer":
        if (!drainSlots) {
          this.#steps.ends(node);
          return this.#enter("restart", now);
        }
        if (inPhase < Math.min(drainSeconds * balancerShare, noticeSeconds)) return;
        node.sendAway(now, Math.min((drainSeconds - inPhase) * 1_000, node.windowMs));
        return this.#enter("slots", now);
      case "slots":
        if (node.sessions > 0 && inPhase < drainSeconds * (1 - balancerShare)) return;
        this.#steps.ends(node);
        return this.#enter("restart", now);
      case "restart":
        if (inPhase < restartSeconds + noticeSeconds + 1) return;
        this.#current++;
        this.#enter("next", now);
    }
  }

  #enter(phase: Phase, now: number): void {
    this.#phase = phase;
    this.#since = now;
  }
}
