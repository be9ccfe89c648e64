/** At most one timer per client: a wheel with a list for each tick up to the longest delay. */
import type { ClientLists } from "./client-lists.ts";

export const tickMs = 10;
/** About 2.9 h; longer delays are cut to it. */
const wheelTicks = 2 ** 20;
/** Lists that {@link Timers} creates in {@link ClientLists}. */
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

  /** Takes one client whose timer is due in this tick; none: no more. */
  takeDue(now: number): number {
    return this.#lists.shift(this.#wheel + (now % wheelTicks));
  }
}
