/**
 * How the fleet's budget of admissions is divided. Nine tenths are shared out by weight. In force may be a twentieth more:
 * from it a node that joins gets its first share, before the others have been given less. The last twentieth is for when
 * the registry has lost its memory, and for nodes that have never reached it: nobody knows then what others hold.
 *
 * A share is in force while a node may work with it. A node that is given less works with the old share until it has the
 * answer: the larger of both counts, until the node itself says that it holds the smaller.
 */

/** Shares are counted in thousandths: sums of whole numbers stay exact. */
const unitsPerShare = 1_000;

export interface Budget {
  /** Shared out by weight. */
  shared: number;
  /** May be in force. */
  most: number;
  /** While the registry does not know what is in force: given to those who hold nothing. */
  blind: number;
}

/** In units. */
export function budgetParts(budgetPerSecond: number): Budget {
  const budget = Math.floor(budgetPerSecond * unitsPerShare);
  const [shared, most] = [Math.floor(budget * 0.9), Math.floor(budget * 0.95)];
  return { shared, most, blind: budget - most };
}

/** What a node that has never reached the registry goes by: a hundred of them stay within the budget. */
export function shareWithoutRegistry(budgetPerSecond: number): number {
  return budgetPerSecond / 100;
}

/** Rounded up: what a node says it holds is never less than what it was given. */
export function toUnits(share: number): number {
  return Math.ceil(Number((share * unitsPerShare).toFixed(3)));
}

export function fromUnits(units: number): number {
  return units / unitsPerShare;
}

export interface ShareSituation {
  budget: Budget;
  weight: number;
  /** Of all, its own included. */
  weights: number;
  /** In force, of the others. */
  othersInForce: number;
  /** It has no share so far: of the twentieth that is kept for such nodes half is left to the next. */
  joins: boolean;
}

/** @returns units. The same rule as in report.lua. */
export function nextShare({ budget, weight, weights, othersInForce, joins }: ShareSituation): number {
  const free = Math.max(0, budget.most - othersInForce);
  const left = joins ? Math.ceil(Math.min(free, budget.most - budget.shared) / 2) : 0;
  return Math.min(fairShare(budget, weight, weights), free - left);
}

/** What a node is given once the others have been given theirs. @param weights of all, its own included. */
export function fairSharePerSecond(budgetPerSecond: number, weight: number, weights: number): number {
  return fromUnits(fairShare(budgetParts(budgetPerSecond), weight, weights));
}

function fairShare({ shared }: Budget, weight: number, weights: number): number {
  return weights > 0 ? Math.floor((shared * weight) / weights) : 0;
}
