/** Time: jitter, deadlines, and turns of the event loop. */
import { setImmediate } from "node:timers/promises";

/**
 * Keeps processes that started together from acting together.
 * @param share the result lies between `ms * (1 - share)` and `ms * (1 + share)`, evenly spread.
 */
export function jittered(ms: number, share = 0.25): number {
  return ms * (1 + share * (2 * Math.random() - 1));
}

/** Resolves as `work` does, or with `late()` after `timeoutMs`, at once where that is negative; the work itself is not cancelled. */
export async function withDeadline<Result, Late>(
  work: Promise<Result>,
  timeoutMs: number,
  late: () => Late,
): Promise<Result | Late> {
  const { promise: expired, resolve } = Promise.withResolvers<Late>();
  const timer = setTimeout(() => resolve(late()), Math.max(0, timeoutMs));
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** As `Promise.all`, and a rejection waits until nothing is under way. */
export async function allSettled<Result>(work: readonly Promise<Result>[]): Promise<Result[]> {
  if (work.length > 1) await Promise.allSettled(work);
  return Promise.all(work);
}

/** Longest run of work before other events of the process get their turn. */
const turnMs = 5;

/** For work in many small parts: call {@link pause} after each part. It yields to the event loop once {@link turnMs} have passed. */
export class Turns {
  #since = performance.now();

  async pause(): Promise<void> {
    if (performance.now() - this.#since < turnMs) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
