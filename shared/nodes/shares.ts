/**
 * Divides the fleet's admission budget. Nine tenths are distributed by weight. Another twentieth may be in force: a joining
 * node gets its first share from it, before the shares of the others shrink. The last twentieth is for the time after a registry
 * lost its memory, and for nodes that never reached it: then the shares in force are unknown.
 *
 * A share is in force while a node may use it. A node whose share shrinks uses the old one until it has the answer. So the
 * larger of both counts, until the node reports that it holds the smaller one.
 */

/** Shares are counted in thousandths, because sums of whole numbers are exact. */
const unitsPerShare = 1_000;

export interface Budget {
  /** Distributed by weight. */
  shared: number;
  /** Bound on the sum of the shares in force. */
  most: number;
  /** For nodes without a share while the shares in force are unknown. */
  blind: number;
}

/** @returns units. */
export function budgetParts(budgetPerSecond: number): Budget {
  const budget = Math.floor(budgetPerSecond * unitsPerShare);
  const [shared, most] = [Math.floor(budget * 0.9), Math.floor(budget * 0.95)];
  return { shared, most, blind: budget - most };
}

/** The share of a node that has never reached the registry. A hundred such nodes stay within the budget. */
export function shareWithoutRegistry(budgetPerSecond: number): number {
  return budgetPerSecond / 100;
}

/** Rounds up: a node must not report less than it was assigned. */
export function toUnits(share: number): number {
  return Math.ceil(Number((share * unitsPerShare).toFixed(3)));
}

export function fromUnits(units: number): number {
  return units / unitsPerShare;
}

export interface ShareSituation {
  budget: Budget;
  weight: number;
  /** Sum over all nodes, including this one. */
  weights: number;
  /** Shares in force of the other nodes. */
  othersInForce: number;
  /** The node has no share yet. It gets at most half of the reserve for joining nodes; the next one may need the rest. */
  joins: boolean;
}

/** The same rule as in report.lua. @returns units. */
export function nextShare({ budget, weight, weights, othersInForce, joins }: ShareSituation): number {
  const free = Math.max(0, budget.most - othersInForce);
  const left = joins ? Math.ceil(Math.min(free, budget.most - budget.shared) / 2) : 0;
  return Math.min(fairShare(budget, weight, weights), free - left);
}

/** The share of a node once all shares have settled. @param weights sum over all nodes, including this one. */
export function fairSharePerSecond(budgetPerSecond: number, weight: number, weights: number): number {
  return fromUnits(fairShare(budgetParts(budgetPerSecond), weight, weights));
}

function fairShare({ shared }: Budget, weight: number, weights: number): number {
  return weights > 0 ? Math.floor((shared * weight) / weights) : 0;
}
