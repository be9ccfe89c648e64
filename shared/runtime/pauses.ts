import { setImmediate } from "node:timers/promises";

/** Work that is done before the event loop turns to what else there is. */
const turnMs = 5;

/** For work in many small parts: called after each, waits for a turn of the event loop when one's time is used up. */
export class Pauses {
  #since = performance.now();

  async pause(): Promise<void> {
    if (performance.now() - this.#since < turnMs) return;
    await setImmediate();
    this.#since = performance.now();
  }
}
