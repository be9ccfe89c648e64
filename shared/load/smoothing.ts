import { dimensionNames, type Dimensions } from "./dimensions.ts";

/** Of a step so much is left after {@link windowMs}. */
const left = 0.01;
const windowMs = 10_000;

/** An exponential mean: 99 % of a step shows within 10 s, however often it is measured. */
export function smoothed(last: Dimensions, measured: Dimensions, elapsedMs: number): Dimensions {
  const keep = left ** (elapsedMs / windowMs);
  return Object.fromEntries(
    dimensionNames.map((name) => [name, last[name] * keep + measured[name] * (1 - keep)]),
  ) as Dimensions;
}
