/** Restarts one node after the other: drain, end, start; the next one once the balancer uses the restarted node. */
import type { GatewayNode } from "./gateway-node.ts";
import type { Settings } from "./settings.ts";
import { tickMs } from "./timers.ts";

const ticksPerSecond = 1_000 / tickMs;
/** Part of the drain time that the balancer has to stop sending clients. */
const balancerShare = 0.25;

export interface DeploySteps {
  /** The node is no longer ready. */
  drains(node: GatewayNode): void;
  ends(node: GatewayNode): void;
}

type Phase = "next" | "balancer" | "reconnects" | "restart";

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
    const { drainSeconds, spreadDrain, restartSeconds } = this.#settings.fleet;
    const { noticeSeconds } = this.#settings.balancer;
    const inPhase = (now - this.#since) / ticksPerSecond;
    switch (this.#phase) {
      case "next":
        node.state = "draining";
        this.#steps.drains(node);
        return this.#enter("balancer", now);
      case "balancer":
        if (!spreadDrain) {
          this.#steps.ends(node);
          return this.#enter("restart", now);
        }
        if (inPhase < Math.min(drainSeconds * balancerShare, noticeSeconds)) return;
        node.drain(now, Math.min((drainSeconds - inPhase) * 1_000, node.windowMs));
        return this.#enter("reconnects", now);
      case "reconnects":
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
