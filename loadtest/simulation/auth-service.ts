/**
 * The service behind the connect hook. It answers calls in order at a fixed rate, and works off calls that timed out, too:
 * it does not know which callers gave up.
 */
import { none } from "./client-lists.ts";
import type { Crowd } from "./crowd.ts";
import { tickMs } from "./timers.ts";

export interface AuthServiceOptions {
  readonly perSecond: number;
  /** Calls that may wait; further calls fail at once. */
  readonly maxWaiting: number;
  readonly timeoutMs: number;
}

export interface AuthAnswers {
  answered(client: number): void;
  /** The call timed out, or the queue was full. */
  failed(client: number): void;
}

export class AuthService {
  readonly #options: AuthServiceOptions;
  readonly #crowd: Crowd;
  readonly #answers: AuthAnswers;
  readonly #waiting: number;
  /** Calls at the head of the queue that timed out and are not worked off yet. */
  #abandoned = 0;
  #credit = 0;
  #calls = 0;

  constructor(options: AuthServiceOptions, crowd: Crowd, answers: AuthAnswers) {
    this.#options = options;
    this.#crowd = crowd;
    this.#answers = answers;
    this.#waiting = crowd.lists.create();
  }

  /** All calls so far, failed ones included. */
  get calls(): number {
    return this.#calls;
  }

  ask(client: number, now: number): void {
    this.#calls++;
    const { lists, queuedAt } = this.#crowd;
    if (lists.size(this.#waiting) + this.#abandoned >= this.#options.maxWaiting) return this.#answers.failed(client);
    queuedAt[client] = now;
    lists.push(this.#waiting, client);
  }

  tick(now: number): void {
    const { lists, queuedAt } = this.#crowd;
    const { perSecond, timeoutMs } = this.#options;
    const oldest = now - timeoutMs / tickMs;
    for (let first = lists.first(this.#waiting); first !== none; first = lists.first(this.#waiting)) {
      if ((queuedAt[first] ?? 0) > oldest) break;
      lists.shift(this.#waiting);
      this.#abandoned++;
      this.#answers.failed(first);
    }
    const perTick = (perSecond * tickMs) / 1_000;
    this.#credit = Math.min(this.#credit, 1) + perTick;
    const wasted = Math.min(this.#abandoned, Math.floor(this.#credit));
    this.#abandoned -= wasted;
    this.#credit -= wasted;
    for (; this.#credit >= 1; this.#credit--) {
      const client = lists.shift(this.#waiting);
      if (client === none) break;
      this.#answers.answered(client);
    }
  }
}
