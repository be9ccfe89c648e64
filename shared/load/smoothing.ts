import { dimensionNames, type Dimensions } from "./dimensions.ts";

/** Share of a step that is still missing after {@link windowMs}. */
const left = 0.01;
const windowMs = 10_000;

/** Exponential mean: 99 % of a step shows after 10 s, however often it is measured. */
export function smoothed(last: Dimensions, measured: Dimensions, elapsedMs: number): Dimensions {
  const keep = left ** (elapsedMs / windowMs);
  return Object.fromEntries(
    dimensionNames.map((name) => [name, last[name] * keep + measured[name] * (1 - keep)]),
  ) as Dimensions;
}
