import type { FleetNode, NodeRegistry, NodeReport, ReportAnswer, ShareRequest } from "./registry.ts";

/** The registry of a single process: there is one node, and the budget is its own. */
export class MemoryNodeRegistry implements NodeRegistry {
  readonly #nodes = new Map<string, FleetNode>();
  readonly #drainOrdered = new Set<string>();

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async report(report: NodeReport, { budgetPerSecond }: ShareRequest): Promise<ReportAnswer> {
    const weights = [...this.#nodes.values()].reduce(
      (sum, node) => (node.instance === report.instance ? sum : sum + node.admissionWeight),
      report.admissionWeight,
    );
    const sharePerSecond = weights > 0 ? (budgetPerSecond * report.admissionWeight) / weights : 0;
    this.#nodes.set(report.instance, { ...report, sharePerSecond });
    return { sharePerSecond, drainOrdered: this.#drainOrdered.has(report.instance), nodes: await this.nodes() };
  }

  async leave(instance: string): Promise<void> {
    this.#nodes.delete(instance);
    this.#drainOrdered.delete(instance);
  }

  async nodes(): Promise<readonly FleetNode[]> {
    return [...this.#nodes.values()].sort((one, other) => one.node.localeCompare(other.node));
  }

  async orderDrain(node: string): Promise<number> {
    const called = [...this.#nodes.values()].filter((known) => known.node === node);
    for (const { instance } of called) this.#drainOrdered.add(instance);
    return called.length;
  }
}
