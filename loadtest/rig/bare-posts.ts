/** What a signed POST costs, in a process of its own: one that publishes and counts has a heap that makes each POST dearer. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export interface BarePostOrder {
  /** Of the receivers: one connection each at least. */
  readonly urls: readonly string[];
  /** Under way. */
  readonly atOnce: number;
  /** In all. */
  readonly posts: number;
}

/** Signed POSTs with the body and the headers of a delivery, and nothing else. The caller stops it. */
export class BarePosts {
  readonly #child: ChildProcess = fork(join(import.meta.dirname, "bare-post-process.ts"));
  readonly #ended = once(this.#child, "exit").then(([code]) => {
    throw new Error(`the process of bare POSTs ended with ${String(code)}`);
  });

  constructor() {
    // It also ends by a stop.
    this.#ended.catch(() => undefined);
  }

  /** @returns CPU for each, in µs. */
  async measure(order: BarePostOrder): Promise<number> {
    const measured = once(this.#child, "message") as Promise<[micros: number]>;
    this.#child.send(order);
    const [micros] = await Promise.race([measured, this.#ended]);
    return micros;
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    if (this.#child.exitCode === null) await once(this.#child, "exit");
  }
}
