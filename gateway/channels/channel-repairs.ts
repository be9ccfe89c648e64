import type { Logger } from "../../shared/runtime/logging.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";

/** Channels whose history is read at a time. */
const concurrency = 32;
const retryMs = 500;
const oneLineAMinute = { capacity: 1, perSecond: 1 / 60 };

interface RepairedChannel {
  readonly name: string;
  /** Calls {@link ChannelRepairs.failed} where it fails. */
  repair(): Promise<void>;
}

/** Channels of a node that wait until their history is read: a bounded number at a time, each until it succeeds. */
export class ChannelRepairs {
  readonly #log: PacedLog;
  readonly #due = new Set<RepairedChannel>();
  /** Until the next retry. */
  readonly #failed = new Set<RepairedChannel>();
  #running = 0;
  #retry: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#log = new PacedLog({ logger, rate: oneLineAMinute, leftOutAt: "debug" });
  }

  add(channel: RepairedChannel): void {
    this.#due.add(channel);
    this.#begin();
  }

  /** Repairs it again, after a pause. */
  failed(channel: RepairedChannel, error: unknown): void {
    this.#log.warn("history", { err: error, channel: channel.name }, "history could not be read, trying again");
    this.#failed.add(channel);
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const channel of this.#failed) this.#due.add(channel);
      this.#failed.clear();
      this.#begin();
    }, retryMs).unref();
  }

  /** The channel has ended. */
  remove(channel: RepairedChannel): void {
    this.#due.delete(channel);
    this.#failed.delete(channel);
  }

  stop(): void {
    clearTimeout(this.#retry);
  }

  #begin(): void {
    for (const channel of this.#due) {
      if (this.#running >= concurrency) return;
      this.#due.delete(channel);
      this.#running++;
      void channel.repair().finally(() => {
        this.#running--;
        this.#begin();
      });
    }
  }
}
