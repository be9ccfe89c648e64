/** Starts and stops gateway nodes by the answer of `/v1/load` alone, as KEDA does. */
import { setTimeout as pause } from "node:timers/promises";
import type { OwnDeployment } from "./fleet.ts";
import { say } from "./scenario.ts";
import type { Server } from "./server.ts";

/** The part of `/v1/load` that is used or reported. */
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
  /** The stabilisation window of an HPA: scales down to the most nodes desired within it. */
  readonly shrinkAfterMs: number;
  readonly stopWithinMs: number;
}

export class Autoscaler {
  /** The last answer of `/v1/load`. */
  load: FleetLoadAnswer | undefined;
  /** Nodes that did not start, or exited with another code than 0. */
  badEnds = 0;
  started = 0;
  stopped = 0;
  readonly #options: AutoscalerOptions;
  readonly #states: State[];
  #desired: { at: number; nodes: number }[] = [];
  #stopping = false;
  #running: Promise<void> | undefined;
  readonly #stops = new Set<Promise<void>>();

  constructor(options: AutoscalerOptions) {
    this.#options = options;
    this.#states = options.seats.map(({ running }) => (running ? "up" : "down"));
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Leaves running nodes alone and waits for those that are stopping. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    await Promise.all(this.#stops);
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      await this.#decide();
      await pause(this.#options.everyMs);
    }
  }

  async #decide(): Promise<void> {
    const { deployment, shrinkAfterMs } = this.#options;
    const headers = { authorization: `Bearer ${deployment.privateApiToken}` };
    const answer = await fetch(`${deployment.privateApi}/v1/load`, { headers });
    if (!answer.ok) throw new Error(`/v1/load answered ${answer.status}`);
    this.load = (await answer.json()) as FleetLoadAnswer;
    const now = Date.now();
    this.#desired = [
      ...this.#desired.filter(({ at }) => at > now - shrinkAfterMs),
      { at: now, nodes: this.load.desiredNodes },
    ];
    const mostDesired = Math.max(...this.#desired.map(({ nodes }) => nodes));
    const have = this.#states.filter((state) => state === "up" || state === "starting").length;
    for (let n = have; n < this.load.desiredNodes; n++) this.#startOne();
    for (let n = have; n > mostDesired; n--) this.#stopOne();
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
