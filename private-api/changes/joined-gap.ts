import type { Gap } from "../../shared/changes/contract.ts";

/** One gap from the beginning of the first to the end of the last. */
export function joinedGap(gaps: readonly Gap[]): Gap | undefined {
  if (gaps.length === 0) return undefined;
  return { from: Math.min(...gaps.map(({ from }) => from)), to: Math.max(...gaps.map(({ to }) => to)) };
}
