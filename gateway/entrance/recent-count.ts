const bucketMs = 100;
const buckets = 10;

/** Counts the events of the last second, in steps of 100 ms. */
export class RecentCount {
  readonly #counts = new Float64Array(buckets);
  /** Index of the newest bucket, from the clock's zero. */
  #newest = 0;

  add(now: number): void {
    this.#turn(now);
    const at = this.#newest % buckets;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  total(now: number): number {
    this.#turn(now);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  #turn(now: number): void {
    const bucket = Math.floor(now / bucketMs);
    const from = Math.max(this.#newest + 1, bucket - buckets + 1);
    for (let at = from; at <= bucket; at++) this.#counts[at % buckets] = 0;
    this.#newest = Math.max(this.#newest, bucket);
  }
}
