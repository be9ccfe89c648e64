import { TidegateError } from "../../shared/errors.ts";
import type { Service } from "../../shared/lifecycle.ts";
import type { Logger } from "../../shared/logging.ts";
import type { FleetNode, NodeRegistry, NodeReport } from "../../shared/nodes/registry.ts";

/** About so often a node reports, and hears of the others. */
const beatMs = 1_000;

/**
 * This node among the others: tells the registry of itself, and knows the fleet as it was at the last report. While the
 * registry is away it goes on with what it knew, its share included: nobody else is given it meanwhile.
 */
export class FleetMember implements Service {
  readonly #registry: NodeRegistry;
  readonly #describe: () => NodeReport;
  readonly #budgetPerSecond: number;
  readonly #logger: Logger;
  readonly #listeners: (() => void)[] = [];
  #sharePerSecond = 0;
  #nodes: readonly FleetNode[] = [];
  #drainOrdered = false;
  #beating: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @param options.budgetPerSecond connections that the whole fleet lets in. */
  constructor(options: {
    registry: NodeRegistry;
    describe: () => NodeReport;
    budgetPerSecond: number;
    logger: Logger;
  }) {
    this.#registry = options.registry;
    this.#describe = options.describe;
    this.#budgetPerSecond = options.budgetPerSecond;
    this.#logger = options.logger;
  }

  /** Connections that this node may let in each second. */
  get sharePerSecond(): number {
    return this.#sharePerSecond;
  }

  get budgetPerSecond(): number {
    return this.#budgetPerSecond;
  }

  /** Itself included. */
  get nodes(): readonly FleetNode[] {
    return this.#nodes;
  }

  /** Where sessions of this node can go. */
  get others(): readonly FleetNode[] {
    const { instance } = this.#describe();
    return this.#nodes.filter((node) => node.instance !== instance && node.state === "ready");
  }

  /** By the API. */
  get drainOrdered(): boolean {
    return this.#drainOrdered;
  }

  /** Called after each report that was answered. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    await this.report();
    this.#schedule();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#beating;
    try {
      await this.#registry.leave(this.#describe().instance);
    } catch (error) {
      this.#logger.debug({ err: error }, "the registry forgets this node by itself");
    }
  }

  /** Now: something has changed that the others should know. */
  async report(): Promise<void> {
    this.#beating ??= this.#beat().finally(() => {
      this.#beating = undefined;
    });
    await this.#beating;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(
      () => void this.report().finally(() => this.#schedule()),
      beatMs * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  async #beat(): Promise<void> {
    try {
      const answer = await this.#registry.report(this.#describe(), {
        budgetPerSecond: this.#budgetPerSecond,
        heldPerSecond: this.#sharePerSecond,
      });
      this.#sharePerSecond = answer.sharePerSecond;
      this.#nodes = answer.nodes;
      this.#drainOrdered = answer.drainOrdered;
      for (const listener of this.#listeners) listener();
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      this.#logger.debug({ err: error }, "the registry of nodes could not be told");
    }
  }
}
