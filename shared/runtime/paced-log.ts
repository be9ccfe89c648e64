import type { Logger } from "./logging.ts";
import { type BucketRate, TokenBucket } from "./token-bucket.ts";

/** Kinds known at a time; past it the oldest one counts as new. */
const maxKinds = 1_000;

interface Kind {
  bucket: TokenBucket;
  /** Since the last line of this kind. */
  leftOut: number;
}

/** Log lines that others cause, paced for each kind. A line says how many of its kind were left out before it. */
export class PacedLog {
  readonly #logger: Logger;
  readonly #rate: BucketRate;
  readonly #leftOutAt: "debug" | undefined;
  readonly #kinds = new Map<string, Kind>();

  /** @param options.leftOutAt the level at which lines beyond the rate are logged; without it they are only counted */
  constructor(options: { logger: Logger; rate?: BucketRate; leftOutAt?: "debug" }) {
    this.#logger = options.logger;
    this.#rate = options.rate ?? { capacity: 5, perSecond: 1 };
    this.#leftOutAt = options.leftOutAt;
  }

  warn(kind: string, fields: Readonly<Record<string, unknown>>, message: string): void {
    const now = performance.now();
    const known = this.#kinds.get(kind) ?? this.#begin(kind, now);
    if (!known.bucket.take(now)) {
      known.leftOut++;
      if (this.#leftOutAt) this.#logger[this.#leftOutAt](fields, message);
      return;
    }
    const { leftOut } = known;
    known.leftOut = 0;
    this.#logger.warn({ ...fields, ...(leftOut > 0 && { leftOut }) }, message);
  }

  #begin(kind: string, now: number): Kind {
    const [oldest] = this.#kinds.keys();
    if (oldest !== undefined && this.#kinds.size >= maxKinds) this.#kinds.delete(oldest);
    const begun = { bucket: new TokenBucket(this.#rate, now), leftOut: 0 };
    this.#kinds.set(kind, begun);
    return begun;
  }
}
