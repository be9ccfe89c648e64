import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import {
  type FleetNode,
  type NodeOrder,
  type NodeRegistry,
  type NodeReport,
  reportLastsMs,
} from "../../shared/nodes/contract.ts";
import { fairSharePerSecond, shareWithoutRegistry } from "../../shared/nodes/shares.ts";

/** Mean time between two reports. */
const reportEveryMs = 1_000;
/** The same while shares are moving from one node to another. */
const settlingReportEveryMs = 200;

interface FleetMemberOptions {
  registry: NodeRegistry;
  /** Of this process, as in its reports. */
  instance: string;
  /** Connections that the whole fleet admits. */
  budgetPerSecond: number;
  errors: ContainedErrors;
  logger: Logger;
}

/**
 * This node as a member of the fleet: reports itself to the registry, and keeps the fleet as the last answer described it.
 * While the registry is away the node keeps what it knew, its share included: the registry gives that share to another node
 * only where this node alone is cut off. A node that has never reached the registry uses a hundredth of the budget, so that
 * clients with a resume token can connect.
 */
export class FleetMember implements Service {
  readonly #options: FleetMemberOptions;
  readonly #listeners: (() => void)[] = [];
  #describe: (() => NodeReport) | undefined;
  #sharePerSecond = 0;
  #nodes: readonly FleetNode[] = [];
  #order: NodeOrder | undefined;
  /** The registry has answered at least once. */
  #answered = false;
  /** When the last answered report was sent, by `performance.now()`. */
  #reportedAt = -Infinity;
  /** The last report got no answer. */
  #registryAway = false;
  /** This node's share has just changed or still differs from its fair share: other nodes wait for its report, or it for theirs. */
  #settling = false;
  #reporting: Promise<void> | undefined;
  /** The report that starts when the one under way ends. */
  #nextReport: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: FleetMemberOptions) {
    this.#options = options;
  }

  /** Connections that this node may admit each second. */
  get sharePerSecond(): number {
    return this.#isForgotten ? 0 : this.#sharePerSecond;
  }

  /** The share that this node has once every node has its own; 0 before the first answer. */
  get fairSharePerSecond(): number {
    if (this.#nodes.length === 0) return 0;
    const weights = this.#nodes.reduce((sum, { admissionWeight }) => sum + admissionWeight, 0);
    const own = this.#nodes.find(({ instance }) => instance === this.#options.instance);
    return fairSharePerSecond(this.#options.budgetPerSecond, own?.admissionWeight ?? 0, weights);
  }

  get budgetPerSecond(): number {
    return this.#options.budgetPerSecond;
  }

  /** This node included. */
  get nodes(): readonly FleetNode[] {
    return this.#nodes;
  }

  /** Other nodes that take sessions. */
  get others(): readonly FleetNode[] {
    return this.#nodes.filter((node) => node.instance !== this.#options.instance && node.state === "ready");
  }

  /** The newest order of an operator, through the private API. */
  get order(): NodeOrder | undefined {
    return this.#order;
  }

  /** @param describe reads this node's report; set before the start. */
  describeBy(describe: () => NodeReport): void {
    this.#describe = describe;
  }

  /** Called after each answered report. */
  onReport(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    await this.report();
    this.#schedule();
  }

  /** Gives the share back: from then on this node admits no connection. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#reporting;
    this.#sharePerSecond = 0;
    try {
      await this.#options.registry.leave(this.#options.instance);
    } catch (error) {
      this.#options.logger.debug({ err: error }, "leaving the node registry failed, this node's entry expires");
    }
  }

  /**
   * Reports now, because this node has changed. A report under way may be older than the change: another one follows it.
   * Resolves also without an answer.
   */
  async report(): Promise<void> {
    if (this.#reporting) {
      this.#nextReport ??= this.#reporting.then(() => {
        this.#nextReport = undefined;
        return this.report();
      });
      return this.#nextReport;
    }
    if (this.#stopped) return;
    this.#reporting = this.#exchange().finally(() => {
      this.#reporting = undefined;
    });
    return this.#reporting;
  }

  /** The process was suspended for so long that its share has gone to other nodes. */
  get #isForgotten(): boolean {
    return this.#answered && !this.#registryAway && performance.now() - this.#reportedAt > reportLastsMs;
  }

  #schedule(): void {
    if (this.#stopped) return;
    const meanMs = this.#settling ? settlingReportEveryMs : reportEveryMs;
    this.#timer = setTimeout(() => void this.report().finally(() => this.#schedule()), jittered(meanMs));
    this.#timer.unref();
  }

  async #exchange(): Promise<void> {
    if (!this.#describe) throw new Error("the fleet member has no report: describeBy comes before the first one");
    const reportedAt = performance.now();
    const held = this.sharePerSecond;
    try {
      const answer = await this.#options.registry.report(this.#describe(), {
        budgetPerSecond: this.#options.budgetPerSecond,
        heldPerSecond: this.#answered || held > 0 ? held : undefined,
      });
      this.#answered = true;
      this.#reportedAt = reportedAt;
      this.#registryAway = false;
      const before = this.#sharePerSecond;
      this.#sharePerSecond = answer.sharePerSecond;
      this.#nodes = answer.nodes;
      this.#settling =
        differs(before, answer.sharePerSecond) || differs(answer.sharePerSecond, this.fairSharePerSecond);
      this.#order = answer.order;
      for (const listener of this.#listeners) this.#options.errors.contain("timer", listener);
    } catch (error) {
      if (!(error instanceof TidegateError)) this.#options.errors.report("store", error);
      this.#registryAway = true;
      if (!this.#answered) this.#sharePerSecond = shareWithoutRegistry(this.#options.budgetPerSecond);
      this.#options.logger.debug({ err: error }, "report to the node registry failed");
    }
  }
}

/** By more than the weights of admitting nodes change from report to report. */
function differs(one: number, other: number): boolean {
  return Math.abs(one - other) > 0.2 * Math.max(one, other);
}
