import type * as contract from "./contract.ts";
import { budgetParts, fromUnits, nextShare, toUnits } from "./shares.ts";

interface Known {
  report: contract.NodeReport;
  /** In units of shares.ts. */
  share: number;
  inForce: number;
}

/** The registry of a single process: a node stays until it leaves. */
export class MemoryNodeRegistry implements contract.NodeRegistry {
  readonly #nodes = new Map<string, Known>();
  /** By instance. */
  readonly #orders = new Map<string, contract.NodeOrder>();

  async report(
    report: contract.NodeReport,
    { budgetPerSecond, heldPerSecond }: contract.ShareRequest,
  ): Promise<contract.ReportAnswer> {
    const { instance, admissionWeight: weight } = report;
    const known = this.#nodes.get(instance);
    const others = [...this.#nodes.values()].filter((other) => other !== known);
    const held = toUnits(heldPerSecond ?? 0);
    const share = nextShare({
      budget: budgetParts(budgetPerSecond),
      weight,
      weights: others.reduce((sum, other) => sum + other.report.admissionWeight, weight),
      othersInForce: others.reduce((sum, other) => sum + other.inForce, 0),
      joins: !known && held === 0,
    });
    this.#nodes.set(instance, { report, share, inForce: Math.max(held, share) });
    return {
      sharePerSecond: fromUnits(share),
      order: this.#orders.get(instance),
      nodes: await this.nodes(),
    };
  }

  async leave(instance: string): Promise<void> {
    this.#nodes.delete(instance);
    this.#orders.delete(instance);
  }

  async nodes(): Promise<readonly contract.FleetNode[]> {
    const nodes = [...this.#nodes.values()].map(({ report, share }) => ({
      ...report,
      sharePerSecond: fromUnits(share),
    }));
    return nodes.sort((one, other) => one.node.localeCompare(other.node));
  }

  async order(node: string, order: contract.NodeOrder): Promise<number> {
    const named = [...this.#nodes.values()].filter(({ report }) => report.node === node);
    for (const { report } of named) this.#orders.set(report.instance, order);
    return named.length;
  }
}
