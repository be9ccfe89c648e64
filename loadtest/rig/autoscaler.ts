/** Starts and stops gateway nodes by nothing but what `/v1/load` says, as KEDA would. */
import { setTimeout as pause } from "node:timers/promises";
import type { OwnDeployment } from "./fleet.ts";
import { say } from "./scenario.ts";
import type { Server } from "./server.ts";

/** Of the answer of `/v1/load`: what is used here, or shown. */
export interface FleetLoadAnswer {
  readonly nodes: number;
  readonly mean: number;
  readonly max: number;
  readonly desiredNodes: number;
  readonly items: readonly { readonly state: "ready" | "draining"; readonly connections: number }[];
}

type State = "down" | "starting" | "up" | "stopping";

export interface AutoscalerOptions {
  readonly deployment: Pick<OwnDeployment, "privateApi" | "privateApiToken">;
  readonly seats: readonly Server[];
  readonly everyMs: number;
  /** Fewer nodes only where so few were wanted all this time: what an HPA calls its stabilisation window. */
  readonly shrinkAfterMs: number;
  readonly stopWithinMs: number;
}

export class Autoscaler {
  /** The last answer. */
  load: FleetLoadAnswer | undefined;
  /** Nodes that did not end in order. */
  badEnds = 0;
  started = 0;
  stopped = 0;
  readonly #options: AutoscalerOptions;
  readonly #states: State[];
  #wanted: { at: number; nodes: number }[] = [];
  #over = false;
  #running: Promise<void> | undefined;
  readonly #stops = new Set<Promise<void>>();

  constructor(options: AutoscalerOptions) {
    this.#options = options;
    this.#states = options.seats.map(({ running }) => (running ? "up" : "down"));
  }

  start(): void {
    this.#running = this.#goOn();
  }

  /** Nodes stay as they are; those that are being stopped are waited for. */
  async stop(): Promise<void> {
    this.#over = true;
    await this.#running;
    await Promise.all(this.#stops);
  }

  async #goOn(): Promise<void> {
    while (!this.#over) {
      await this.#decide();
      await pause(this.#options.everyMs);
    }
  }

  async #decide(): Promise<void> {
    const { deployment, shrinkAfterMs } = this.#options;
    const headers = { authorization: `Bearer ${deployment.privateApiToken}` };
    const answer = await fetch(`${deployment.privateApi}/v1/load`, { headers });
    if (!answer.ok) throw new Error(`/v1/load was answered ${answer.status}`);
    this.load = (await answer.json()) as FleetLoadAnswer;
    const now = Date.now();
    this.#wanted = [
      ...this.#wanted.filter(({ at }) => at > now - shrinkAfterMs),
      { at: now, nodes: this.load.desiredNodes },
    ];
    const wanted = this.load.desiredNodes;
    const lately = Math.max(...this.#wanted.map(({ nodes }) => nodes));
    const have = this.#states.filter((state) => state === "up" || state === "starting").length;
    for (let n = have; n < wanted; n++) this.#startOne();
    for (let n = have; n > lately; n--) this.#stopOne();
  }

  #startOne(): void {
    const seat = this.#states.indexOf("down");
    const server = this.#options.seats[seat];
    if (!server) return;
    this.#states[seat] = "starting";
    this.started++;
    void server.start().then(
      () => (this.#states[seat] = "up"),
      (error: unknown) => {
        say(`${server.name} did not start: ${String(error)}`);
        this.badEnds++;
      },
    );
  }

  #stopOne(): void {
    const seat = this.#states.lastIndexOf("up");
    const server = this.#options.seats[seat];
    if (!server) return;
    this.#states[seat] = "stopping";
    this.stopped++;
    const stop = server.stop(this.#options.stopWithinMs).then(({ exitCode }) => {
      this.#states[seat] = "down";
      if (exitCode !== 0) this.badEnds++;
      this.#stops.delete(stop);
    });
    this.#stops.add(stop);
  }
}
