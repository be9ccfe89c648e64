/** Divides the places of a service among the lanes that have something for it, in proportion to their weights. Pure. */

/** Of the places that are free at once, so many are divided: beyond that there is enough for all. */
const maxDivided = 32;

export class LaneTurns {
  /** By service, then by lane: grows by 1/weight with each place, and the least one is next. The least of a service is 0. */
  readonly #passes = new Map<string, Map<string, number>>();

  /**
   * A lane loses its turn where it does not take its places.
   * @param weights by lane
   * @returns by lane, how many of the places it may take first
   */
  divide(service: string, places: number, weights: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    const before = this.#passes.get(service);
    const passes = new Map([...weights.keys()].map((lane) => [lane, before?.get(lane) ?? 0]));
    const parts = new Map<string, number>();
    for (let left = Math.min(places, maxDivided); left > 0; left--) {
      const lane = leastOf(passes);
      parts.set(lane, (parts.get(lane) ?? 0) + 1);
      passes.set(lane, (passes.get(lane) ?? 0) + 1 / Math.max(1, weights.get(lane) ?? 1));
    }
    const least = passes.get(leastOf(passes)) ?? 0;
    for (const [lane, pass] of passes) passes.set(lane, pass - least);
    this.#passes.set(service, passes);
    return parts;
  }

  forget(service: string): void {
    this.#passes.delete(service);
  }
}

function leastOf(passes: ReadonlyMap<string, number>): string {
  let [least, leastPass] = ["", Infinity];
  for (const [lane, pass] of passes) if (pass < leastPass) [least, leastPass] = [lane, pass];
  return least;
}
