/** Detects processes that the machine starves of CPU. */
import type { ProcessWatch } from "./process-watch.ts";

const sampleMs = 200;
const starvedShare = 0.7;
/** Consecutive samples, about as long as a health check allows. */
const starvedSamples = 4;

/** Samples how long each process waits for a core. */
export class StarvationSampler {
  readonly #onStarved: () => void;
  #timer: NodeJS.Timeout | undefined;

  /** @param onStarved called each time that a process waited for a core nearly all the time */
  constructor(onStarved: () => void) {
    this.#onStarved = onStarved;
  }

  start(watches: readonly ProcessWatch[]): void {
    const waits = watches.map((watch) => ({ watch, waitedMs: watch.waitedMs, samples: 0 }));
    this.#timer = setInterval(() => {
      for (const wait of waits) {
        const now = wait.watch.waitedMs;
        wait.samples = now - wait.waitedMs > sampleMs * starvedShare ? wait.samples + 1 : 0;
        wait.waitedMs = now;
        if (wait.samples < starvedSamples) continue;
        wait.samples = 0;
        this.#onStarved();
      }
    }, sampleMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
