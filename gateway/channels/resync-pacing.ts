import type { Follower } from "./hub.ts";

/** Of all channels of a node: each asks its service for a snapshot. */
const resyncsPerSecond = 500;
const tickMs = 20;

/**
 * Tells followers that history cannot bridge: a handful at once, more of them in random order at a bounded rate, so that
 * ten thousand snapshots are not asked for together.
 */
export class ResyncPacing {
  readonly #tell: (channel: string, follower: Follower) => boolean;
  /** In any order; `#places` says where each one is. */
  readonly #waiting: { channel: string; follower: Follower }[] = [];
  readonly #places = new Map<Follower, number>();
  #tick: NodeJS.Timeout | undefined;

  /** @param tell answers false where the follower cannot be told yet. */
  constructor(tell: (channel: string, follower: Follower) => boolean) {
    this.#tell = tell;
  }

  get count(): number {
    return this.#waiting.length;
  }

  add(channel: string, followers: readonly Follower[]): void {
    for (const follower of followers) {
      if (this.#places.has(follower)) continue;
      this.#places.set(follower, this.#waiting.length);
      this.#waiting.push({ channel, follower });
    }
    if (this.#waiting.length > 0) this.#tick ??= setTimeout(() => this.#tellSome(), 0);
  }

  /** It has gone, or begins anew: there is nothing to tell it. */
  remove(follower: Follower): void {
    const place = this.#places.get(follower);
    if (place === undefined) return;
    this.#places.delete(follower);
    const last = this.#waiting.pop();
    if (!last || last.follower === follower) return;
    this.#waiting[place] = last;
    this.#places.set(last.follower, place);
  }

  stop(): void {
    clearTimeout(this.#tick);
    this.#tick = undefined;
    this.#waiting.length = 0;
    this.#places.clear();
  }

  #tellSome(): void {
    this.#tick = undefined;
    const chosen: { channel: string; follower: Follower }[] = [];
    while (chosen.length < (resyncsPerSecond * tickMs) / 1000) {
      const one = this.#waiting[Math.floor(Math.random() * this.#waiting.length)];
      if (!one) break;
      this.remove(one.follower);
      chosen.push(one);
    }
    for (const { channel, follower } of chosen) {
      if (!this.#tell(channel, follower)) this.add(channel, [follower]);
    }
    if (this.#waiting.length === 0) return;
    clearTimeout(this.#tick);
    this.#tick = setTimeout(() => this.#tellSome(), tickMs);
  }
}
