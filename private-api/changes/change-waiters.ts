/** Pulls that wait for changes. One subscription of the process wakes all of them, so a waiting pull needs no connection to the store. */
import type { ChangeLog } from "../../shared/changes/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { PatternMap } from "../../shared/runtime/pattern-map.ts";

/** Of one process, at once. */
const maxWaiting = 1_000;
const retryAfterMs = 1_000;

/** Slots with news for one pull, from its beginning to its end. */
interface Listening {
  /** "all": news may have been missed. */
  news: Set<number> | "all";
  wake: () => void;
}

export class ChangeWaiters {
  readonly #log: ChangeLog;
  /** By channel pattern. */
  readonly #listening = new PatternMap<Set<Listening>>();
  #listens: Promise<void> | undefined;
  #waiting = 0;
  #stopped = false;

  constructor(log: ChangeLog) {
    this.#log = log;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Ends all waits. Later ones end at once. */
  stop(): void {
    this.#stopped = true;
    for (const each of this.#all()) each.wake();
  }

  /** Resolves once everything appended from now on is noticed. The caller must call {@link ChangeWait.end}. */
  async listen(patterns: readonly string[]): Promise<ChangeWait> {
    this.#listens ??= this.#log.listen({
      onAppended: (slot, channel) => this.#notice(slot, channel),
      onRestored: () => this.#noticeAll(),
    });
    await this.#listens;
    const listening: Listening = { news: new Set(), wake: () => undefined };
    for (const pattern of patterns) this.#listening.getOrAdd(pattern, () => new Set()).add(listening);
    return {
      wait: async (waitMs, signal) => this.#wait(listening, waitMs, signal),
      end: () => {
        for (const pattern of patterns) {
          const known = this.#listening.get(pattern);
          known?.delete(listening);
          if (known?.size === 0) this.#listening.delete(pattern);
        }
      },
    };
  }

  async #wait(listening: Listening, waitMs: number, signal: AbortSignal): Promise<ReadonlySet<number> | "all"> {
    const hasNews = (): boolean => listening.news === "all" || listening.news.size > 0;
    if (!hasNews() && !this.#stopped && !signal.aborted) {
      if (this.#waiting >= maxWaiting) {
        throw new TidegateError("rate_limited", `${maxWaiting} requests already wait for changes`, { retryAfterMs });
      }
      this.#waiting++;
      const { promise, resolve } = Promise.withResolvers<void>();
      listening.wake = resolve;
      const timer = setTimeout(resolve, waitMs);
      const onAbort = (): void => resolve();
      signal.addEventListener("abort", onAbort);
      await promise;
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      this.#waiting--;
    }
    const { news } = listening;
    listening.news = new Set();
    return news;
  }

  #notice(slot: number, channel: string): void {
    for (const each of this.#listening.matching(channel)) {
      for (const listening of each) {
        if (listening.news !== "all") listening.news.add(slot);
        listening.wake();
      }
    }
  }

  #noticeAll(): void {
    for (const listening of this.#all()) {
      listening.news = "all";
      listening.wake();
    }
  }

  *#all(): Iterable<Listening> {
    for (const each of this.#listening.values) yield* each;
  }
}

export interface ChangeWait {
  /**
   * Waits at most `waitMs` for changes of the patterns.
   * @returns slots with news since the last wait, or since {@link ChangeWaiters.listen}; empty: the time is over, `signal` was aborted, or the
   * process stops
   * @throws TidegateError `rate_limited`
   */
  wait(waitMs: number, signal: AbortSignal): Promise<ReadonlySet<number> | "all">;
  end(): void;
}
