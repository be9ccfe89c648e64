/** When an endpoint may be sent its next request. Pure. */
import type { TokenBucket } from "../../shared/runtime/token-bucket.ts";

export class EndpointPace {
  readonly #bucket: TokenBucket | undefined;
  #heldUntil = 0;

  /** @param bucket of its `perSecond`; undefined: as many as it answers */
  constructor(bucket: TokenBucket | undefined) {
    this.#bucket = bucket;
  }

  /** It has asked for a pause. */
  hold(ms: number, nowMs: number): void {
    this.#heldUntil = Math.max(this.#heldUntil, nowMs + ms);
  }

  /** It has changed: it may be sent something again. */
  release(): void {
    this.#heldUntil = 0;
  }

  isHeld(nowMs: number): boolean {
    return nowMs < this.#heldUntil;
  }

  /** A request is sent. */
  owe(): void {
    this.#bucket?.owe(1);
  }

  waitMs(nowMs: number): number {
    return Math.max(this.#heldUntil - nowMs, this.#bucket?.waitMs(nowMs) ?? 0);
  }

  tokens(nowMs: number): number {
    return this.#bucket?.tokens(nowMs) ?? Infinity;
  }
}
