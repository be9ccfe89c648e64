import type { Follower } from "./ordered-delivery.ts";

/** Of all channels of a node: each notice makes a client fetch a snapshot from its service. */
const resyncsPerSecond = 500;
const tickMs = 20;

/** The channel that a follower lost. */
export interface ResyncSource {
  /** Sends the notice. @returns false where the channel's position is not known yet. */
  resync(follower: Follower): boolean;
}

interface PendingResync {
  source: ResyncSource;
  follower: Follower;
}

/**
 * Notifies followers whose channel has a gap: a handful at once, more of them in random order at a bounded rate, so that
 * ten thousand clients do not fetch a snapshot at the same moment.
 */
export class ResyncPacing {
  /** In any order; `#places` has each one's index. */
  readonly #pending: PendingResync[] = [];
  readonly #places = new Map<Follower, number>();
  #tick: NodeJS.Timeout | undefined;

  get count(): number {
    return this.#pending.length;
  }

  add(source: ResyncSource, followers: readonly Follower[]): void {
    for (const follower of followers) {
      if (this.#places.has(follower)) continue;
      this.#places.set(follower, this.#pending.length);
      this.#pending.push({ source, follower });
    }
    if (this.#pending.length > 0) this.#tick ??= setTimeout(() => this.#notifySome(), 0);
  }

  /** The follower has left its channel. */
  remove(follower: Follower): void {
    const place = this.#places.get(follower);
    if (place === undefined) return;
    this.#places.delete(follower);
    const last = this.#pending.pop();
    if (!last || last.follower === follower) return;
    this.#pending[place] = last;
    this.#places.set(last.follower, place);
  }

  stop(): void {
    clearTimeout(this.#tick);
    this.#tick = undefined;
    this.#pending.length = 0;
    this.#places.clear();
  }

  #notifySome(): void {
    this.#tick = undefined;
    const chosen: PendingResync[] = [];
    while (chosen.length < (resyncsPerSecond * tickMs) / 1000) {
      const one = this.#pending[Math.floor(Math.random() * this.#pending.length)];
      if (!one) break;
      this.remove(one.follower);
      chosen.push(one);
    }
    for (const { source, follower } of chosen) {
      if (!source.resync(follower)) this.add(source, [follower]);
    }
    if (this.#pending.length === 0) return;
    clearTimeout(this.#tick);
    this.#tick = setTimeout(() => this.#notifySome(), tickMs);
  }
}
