/** What many clients saw, as figures that can be sent between processes and merged. */
import { Histogram, type HistogramJson } from "./histogram.ts";

/** The SDK, or a stock Socket.IO client that keeps its positions by hand. */
export type MemberKind = "sdk" | "stock";

export interface TallyJson {
  readonly counts: Readonly<Record<string, number>>;
  readonly durations: Readonly<Record<string, HistogramJson>>;
  /** Welcomes by the tenth of a second (Unix time) in which they came. */
  readonly welcomes: readonly (readonly [tenth: number, count: number])[];
}

/** Keys are paths such as `latency/quiet/sdk/calm`; patterns select several keys. */
export class Tally {
  readonly #counts = new Map<string, number>();
  readonly #durations = new Map<string, Histogram>();
  readonly #welcomes = new Map<number, number>();

  count(key: string, by = 1): void {
    if (by !== 0) this.#counts.set(key, (this.#counts.get(key) ?? 0) + by);
  }

  duration(key: string, ms: number): void {
    this.#histogram(key).add(ms);
  }

  welcome(atMs: number): void {
    this.#welcomed(Math.floor(atMs / 100), 1);
  }

  /** The sum over all keys that match part by part; `*` matches any one part. */
  total(pattern: string): number {
    return [...this.#counts].reduce((sum, [key, count]) => (matches(key, pattern) ? sum + count : sum), 0);
  }

  counts(pattern: string): Record<string, number> {
    return Object.fromEntries([...this.#counts].filter(([key]) => matches(key, pattern)));
  }

  durations(pattern: string): Histogram {
    const sum = new Histogram();
    for (const [key, histogram] of this.#durations) if (matches(key, pattern)) sum.merge(histogram.toJSON());
    return sum;
  }

  /** The most welcomes in any second, in steps of a tenth. @param sinceMs Unix ms */
  peakWelcomesPerSecond(sinceMs: number): number {
    let peak = 0;
    for (const first of this.#welcomes.keys()) {
      if (first < Math.floor(sinceMs / 100)) continue;
      let sum = 0;
      for (let tenth = first; tenth < first + 10; tenth++) sum += this.#welcomes.get(tenth) ?? 0;
      peak = Math.max(peak, sum);
    }
    return peak;
  }

  merge({ counts, durations, welcomes }: TallyJson): void {
    for (const [key, count] of Object.entries(counts)) this.count(key, count);
    for (const [key, histogram] of Object.entries(durations)) this.#histogram(key).merge(histogram);
    for (const [tenth, count] of welcomes) this.#welcomed(tenth, count);
  }

  toJSON(): TallyJson {
    return {
      counts: Object.fromEntries(this.#counts),
      durations: Object.fromEntries([...this.#durations].map(([key, histogram]) => [key, histogram.toJSON()])),
      welcomes: [...this.#welcomes],
    };
  }

  #histogram(key: string): Histogram {
    const histogram = this.#durations.get(key) ?? new Histogram();
    this.#durations.set(key, histogram);
    return histogram;
  }

  #welcomed(tenth: number, count: number): void {
    this.#welcomes.set(tenth, (this.#welcomes.get(tenth) ?? 0) + count);
  }
}

function matches(key: string, pattern: string): boolean {
  const [parts, wanted] = [key.split("/"), pattern.split("/")];
  return parts.length === wanted.length && wanted.every((part, i) => part === "*" || part === parts[i]);
}
