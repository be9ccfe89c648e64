/**
 * Assigns points to groups. Pure.
 *
 * With more than two groups, percentages alone cannot let one group grow without moving users between the others. So the document
 * stores the points of each group: a group keeps its points, takes free ones to grow, and returns the latest ones first to shrink.
 */
import { pointCount, pointsPerPercent } from "./point.ts";

/** Half-open ranges, in the order in which the group took them. */
export type PointRanges = readonly (readonly [from: number, to: number])[];
export type Shares = Readonly<Record<string, PointRanges>>;

/** The owner of points of the fallback. */
export const unassigned = -1;

/**
 * @param groups take free points in this order; the percentages add up to at most 100.
 * @param before the current points by group.
 */
export function divide(groups: readonly { name: string; percent: number }[], before: Shares): Shares {
  const wanted = groups.map(({ name, percent }) => ({ name, points: Math.round(percent * pointsPerPercent) }));
  const kept = wanted.map(({ name, points }) => ({
    name,
    points,
    ranges: firstOf(Object.hasOwn(before, name) ? (before[name] ?? []) : [], points),
  }));
  const owners = ownersOf(kept.map(({ ranges }) => ranges));
  if (!owners) return divide(groups, {});
  let next = 0;
  const shares = kept.map(({ name, points, ranges }) => {
    const taken = ranges.map(([from, to]): [number, number] => [from, to]);
    for (let missing = points - countOf(ranges); missing > 0; next++) {
      if (owners[next] !== unassigned) continue;
      const last = taken.at(-1);
      if (last?.[1] === next) last[1]++;
      else taken.push([next, next + 1]);
      missing--;
    }
    return [name, taken] as const;
  });
  return Object.fromEntries(shares);
}

/** By point: the index of its group, or {@link unassigned}. Undefined where a point has two owners. */
export function ownersOf(groups: readonly PointRanges[]): Int16Array | undefined {
  const owners = new Int16Array(pointCount).fill(unassigned);
  for (const [index, ranges] of groups.entries()) {
    for (const [from, to] of ranges) {
      for (let point = from; point < to; point++) {
        if (owners[point] !== unassigned) return undefined;
        owners[point] = index;
      }
    }
  }
  return owners;
}

function countOf(ranges: PointRanges): number {
  return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}

function firstOf(ranges: PointRanges, points: number): PointRanges {
  let left = points;
  return ranges.flatMap(([from, to]) => {
    const end = Math.min(to, from + left);
    left -= Math.max(0, end - from);
    return end > from ? [[from, end] as const] : [];
  });
}
