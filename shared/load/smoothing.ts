import { dimensionNames, type Dimensions } from "./dimensions.ts";

/** Share of a step that is still missing after {@link windowMs}. */
const left = 0.01;
const windowMs = 10_000;

/** Exponential mean: 99 % of a step shows after 10 s, however often it is measured. */
export function smoothedValue(last: number, measured: number, elapsedMs: number): number {
  const keep = left ** (elapsedMs / windowMs);
  return last * keep + measured * (1 - keep);
}

export function smoothed(last: Dimensions, measured: Dimensions, elapsedMs: number): Dimensions {
  return Object.fromEntries(
    dimensionNames.map((name) => [name, smoothedValue(last[name], measured[name], elapsedMs)]),
  ) as Dimensions;
}
