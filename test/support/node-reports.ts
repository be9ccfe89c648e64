/** Reports of nodes, for tests of what nodes tell each other. */
import { randomUUID } from "node:crypto";
import { dimensionNames, type Dimensions } from "../../shared/load/dimensions.ts";
import type { NodeReport } from "../../shared/nodes/contract.ts";

/** @returns dimensions that are 0 where nothing is given. */
export function dimensionsOf(given: Partial<Dimensions> = {}): Dimensions {
  return Object.fromEntries(dimensionNames.map((name) => [name, given[name] ?? 0])) as Dimensions;
}

export function nodeReport(given: Partial<NodeReport> = {}): NodeReport {
  return {
    node: "node",
    instance: randomUUID(),
    state: "ready",
    startedAt: 1_780_000_000_000,
    connections: 0,
    maxConnections: 100,
    factor: 0,
    dimensions: dimensionsOf(),
    idleMemory: 0,
    admissionWeight: 100,
    ...given,
  };
}
