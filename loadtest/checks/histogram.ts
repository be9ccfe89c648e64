/** Durations in buckets that grow by one percent: small in memory, and two histograms can be merged. */
const growth = 1.01;

export interface HistogramJson {
  readonly counts: readonly (readonly [bucket: number, count: number])[];
  readonly max: number;
}

export class Histogram {
  readonly #counts = new Map<number, number>();
  count = 0;
  max = 0;

  add(ms: number): void {
    this.#add(Math.floor(Math.log(Math.max(0, ms) + 1) / Math.log(growth)), 1);
    this.max = Math.max(this.max, ms);
  }

  merge({ counts, max }: HistogramJson): void {
    for (const [bucket, count] of counts) this.#add(bucket, count);
    this.max = Math.max(this.max, max);
  }

  /** @param share of 1, such as 0.999. @returns ms; NaN where the histogram is empty. */
  percentile(share: number): number {
    let left = this.count * share;
    for (const [bucket, count] of [...this.#counts].sort(([a], [b]) => a - b)) {
      left -= count;
      if (left <= 0) return Math.min(this.max, growth ** (bucket + 1) - 1);
    }
    return Number.NaN;
  }

  toJSON(): HistogramJson {
    return { counts: [...this.#counts], max: this.max };
  }

  #add(bucket: number, count: number): void {
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count);
    this.count += count;
  }
}

/** @returns such as `p50 3.1, p99 14.0, p99.9 20.0, longest 25.0 ms (1000)`. */
export function histogramText(histogram: Histogram): string {
  if (histogram.count === 0) return "nothing";
  const at = (share: number): string => histogram.percentile(share).toFixed(1);
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, p99.9 ${at(0.999)}, longest ${histogram.max.toFixed(1)} ms (${histogram.count})`;
}
