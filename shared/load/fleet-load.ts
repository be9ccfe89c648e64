import type { Dimensions } from "./dimensions.ts";
import { desiredNodes, type LoadedNode } from "./desired-nodes.ts";

export interface FleetLoad {
  nodes: number;
  /** Mean load factor of all nodes; 0 without nodes. */
  mean: number;
  max: number;
  desiredNodes: number;
}

export function fleetLoad(nodes: readonly (LoadedNode & { factor: number; dimensions: Dimensions })[]): FleetLoad {
  const factors = nodes.map(({ factor }) => factor);
  return {
    nodes: nodes.length,
    mean: factors.length > 0 ? factors.reduce((sum, factor) => sum + factor, 0) / factors.length : 0,
    max: Math.max(0, ...factors),
    desiredNodes: desiredNodes(nodes),
  };
}
