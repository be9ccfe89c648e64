import { TidegateError } from "../shared/runtime/errors.ts";

/** Shared by all metrics of one scrape. */
const maxAgeMs = 500;

/** Reads from a store for the metrics; undefined while the store is away: no number is better than an old one. */
export function createReading<Reading>(ask: () => Promise<Reading>): () => Promise<Reading | undefined> {
  let last: { reading: Promise<Reading | undefined>; at: number } | undefined;

  async function read(): Promise<Reading | undefined> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof TidegateError) return undefined;
      throw error;
    }
  }

  return () => {
    const now = performance.now();
    if (!last || now - last.at >= maxAgeMs) last = { reading: read(), at: now };
    return last.reading;
  };
}
