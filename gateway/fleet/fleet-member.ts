import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { type FleetNode, type NodeRegistry, type NodeReport, reportLastsMs } from "../../shared/nodes/contract.ts";
import { fairSharePerSecond, shareWithoutRegistry } from "../../shared/nodes/shares.ts";

/** About so often a node reports, and hears of the others. */
const beatMs = 1_000;
/** So often while shares move from node to node. */
const hurriedBeatMs = 200;

/**
 * This node among the others: tells the registry of itself, and knows the fleet as it was at the last report. While the
 * registry is away it goes on with what it knew, its share included: nobody else is given it meanwhile, but where this node
 * alone is cut off. A node that has never reached the registry goes by a hundredth of the budget, so that clients with a
 * resume token get in.
 */
export class FleetMember implements Service {
  readonly #registry: NodeRegistry;
  readonly #describe: () => NodeReport;
  readonly #budgetPerSecond: number;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #listeners: (() => void)[] = [];
  /** It stays; the rest of what describes this node does not, and takes a moment. */
  #instance: string | undefined;
  #sharePerSecond = 0;
  #nodes: readonly FleetNode[] = [];
  #drainOrdered = false;
  #answered = false;
  /** By `performance.now()`: when it said what was answered last. */
  #saidAt = -Infinity;
  /** The last report had no answer. */
  #away = false;
  /** It has just been given another share, or is owed one: others wait for it to say so, or it for them. */
  #sharesMove = false;
  #beating: Promise<void> | undefined;
  /** Begins when the one under way has ended. */
  #nextBeat: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @param options.budgetPerSecond connections that the whole fleet lets in. */
  constructor(options: {
    registry: NodeRegistry;
    describe: () => NodeReport;
    budgetPerSecond: number;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    this.#registry = options.registry;
    this.#describe = options.describe;
    this.#budgetPerSecond = options.budgetPerSecond;
    this.#errors = options.errors;
    this.#logger = options.logger;
  }

  /** Connections that this node may let in each second. */
  get sharePerSecond(): number {
    return this.#isForgotten ? 0 : this.#sharePerSecond;
  }

  /** What it is given once the others have been given theirs. */
  get fairSharePerSecond(): number {
    // Nobody is known before the first answer; this node may not be put together then.
    if (this.#nodes.length === 0) return 0;
    const weights = this.#nodes.reduce((sum, { admissionWeight }) => sum + admissionWeight, 0);
    this.#instance ??= this.#describe().instance;
    const own = this.#nodes.find(({ instance }) => instance === this.#instance);
    return fairSharePerSecond(this.#budgetPerSecond, own?.admissionWeight ?? 0, weights);
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
    this.#instance ??= this.#describe().instance;
    return this.#nodes.filter((node) => node.instance !== this.#instance && node.state === "ready");
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

  /** From here on it lets nobody in: others are given its share. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#beating;
    this.#sharePerSecond = 0;
    try {
      await this.#registry.leave(this.#describe().instance);
    } catch (error) {
      this.#logger.debug({ err: error }, "the registry forgets this node by itself");
    }
  }

  /**
   * Now: something has changed that the others should know, the state first of all. What is under way may have been said
   * before it: then another follows.
   */
  async report(): Promise<void> {
    if (this.#beating) {
      this.#nextBeat ??= this.#beating.then(() => {
        this.#nextBeat = undefined;
        return this.report();
      });
      return this.#nextBeat;
    }
    return this.#begin();
  }

  /** The process stood still for so long that others were given its share. */
  get #isForgotten(): boolean {
    return this.#answered && !this.#away && performance.now() - this.#saidAt > reportLastsMs;
  }

  async #begin(): Promise<void> {
    if (this.#stopped) return;
    this.#beating = this.#beat().finally(() => {
      this.#beating = undefined;
    });
    await this.#beating;
  }

  #schedule(): void {
    if (this.#stopped) return;
    const beat = this.#sharesMove ? hurriedBeatMs : beatMs;
    this.#timer = setTimeout(
      this.#errors.guarded("timer", () => this.report().finally(() => this.#schedule())),
      beat * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  async #beat(): Promise<void> {
    const saidAt = performance.now();
    const held = this.sharePerSecond;
    try {
      const answer = await this.#registry.report(this.#describe(), {
        budgetPerSecond: this.#budgetPerSecond,
        heldPerSecond: this.#answered || held > 0 ? held : undefined,
      });
      this.#answered = true;
      this.#saidAt = saidAt;
      this.#away = false;
      const before = this.#sharePerSecond;
      this.#sharePerSecond = answer.sharePerSecond;
      this.#nodes = answer.nodes;
      this.#sharesMove =
        differs(before, answer.sharePerSecond) || differs(answer.sharePerSecond, this.fairSharePerSecond);
      this.#drainOrdered = answer.drainOrdered;
      for (const listener of this.#listeners) this.#errors.contain("timer", listener);
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      this.#away = true;
      if (!this.#answered) this.#sharePerSecond = shareWithoutRegistry(this.#budgetPerSecond);
      this.#logger.debug({ err: error }, "the registry of nodes could not be told");
    }
  }
}

/** By more than the weights of nodes that let clients in change from beat to beat. */
function differs(one: number, other: number): boolean {
  return Math.abs(one - other) > 0.2 * Math.max(one, other);
}
