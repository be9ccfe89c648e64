/**
 * Which points are whose. Pure.
 *
 * With more than two groups no rule that only knows the percentages can let one group grow without moving anybody between
 * others. So the points are kept with the document: a group keeps those it has, takes free ones to grow, and gives those
 * back first that it took last.
 */
import { pointCount, pointsPerPercent } from "./point.ts";

/** From the first, to before the second; in the order in which they were taken. */
export type PointRanges = readonly (readonly [from: number, to: number])[];
export type Shares = Readonly<Record<string, PointRanges>>;

/** What is nobody's belongs to the fallback. */
export const nobody = -1;

/**
 * @param groups in the order in which they take what is free; the percentages add up to 100 at most.
 * @param before the points they have, by group.
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
      if (owners[next] !== nobody) continue;
      const last = taken.at(-1);
      if (last?.[1] === next) last[1]++;
      else taken.push([next, next + 1]);
      missing--;
    }
    return [name, taken] as const;
  });
  return Object.fromEntries(shares);
}

/** The index of the group that each point belongs to, or {@link nobody}; undefined where a point has two owners. */
export function ownersOf(groups: readonly PointRanges[]): Int16Array | undefined {
  const owners = new Int16Array(pointCount).fill(nobody);
  for (const [index, ranges] of groups.entries()) {
    for (const [from, to] of ranges) {
      for (let point = from; point < to; point++) {
        if (owners[point] !== nobody) return undefined;
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
