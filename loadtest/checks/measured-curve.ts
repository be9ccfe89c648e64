/** A curve through measured points of load, with straight lines between and beyond them. Pure. */
export class MeasuredCurve {
  readonly #points: readonly (readonly [work: number, value: number])[];

  /** @param points two or more, by growing work. */
  constructor(points: readonly (readonly [work: number, value: number])[]) {
    this.#points = points;
  }

  /** Beyond the last point, the line through the last two continues. */
  at(work: number): number {
    const points = this.#points;
    const next = points.findIndex(([measuredAt]) => measuredAt >= work);
    const right = next === -1 ? points.length - 1 : Math.max(1, next);
    const [[x0, y0], [x1, y1]] = [points[right - 1] ?? [0, 0], points[right] ?? [0, 0]];
    return x1 === x0 ? y1 : y0 + ((work - x0) / (x1 - x0)) * (y1 - y0);
  }
}

/**
 * The largest work at which `fits` holds, to a ten-thousandth of `upTo`.
 *
 * @param fits holds up to some work and not beyond it
 */
export function largestWork(fits: (work: number) => boolean, upTo: number): number {
  let [good, bad] = [0, upTo];
  while (bad - good > upTo / 10_000) {
    const middle = (good + bad) / 2;
    if (fits(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
