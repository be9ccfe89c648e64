/** A client has one timer at most: a wheel with a list for each tick, as far as a delay can reach. */
import type { ClientLists } from "./client-lists.ts";

export const tickMs = 10;
/** About 2.9 h. A longer delay is cut to it. */
const wheelTicks = 2 ** 20;
/** What {@link Timers} needs of {@link ClientLists}. */
export const timerLists = wheelTicks;

export class Timers {
  readonly #lists: ClientLists;
  readonly #wheel: number;

  constructor(lists: ClientLists) {
    this.#lists = lists;
    this.#wheel = lists.create(wheelTicks);
  }

  /** Due in the next tick at the earliest. */
  set(client: number, now: number, delayMs: number): void {
    const ticks = Math.min(wheelTicks - 1, Math.max(1, Math.round(delayMs / tickMs)));
    this.#lists.push(this.#wheel + ((now + ticks) % wheelTicks), client);
  }

  /** One after the other, until nobody is left. */
  takeDue(now: number): number {
    return this.#lists.shift(this.#wheel + (now % wheelTicks));
  }
}
