import type { Claim } from "../../shared/sessions/contract.ts";

export type SessionClaim = Claim & { sessionId: string };

/** The message about this connection's claim arrives within this time, or is lost. */
const ownClaimMs = 1_000;

/**
 * Whether this connection still has the session, or one that claimed it later. The newest claim wins. A connection that was
 * asked to move stays for a while beside the newer one: calls under way finish here, new messages go there.
 */
export class Succession {
  readonly #onMoved: () => void;
  readonly #onReplaced: (stayed: boolean) => void;
  #held: SessionClaim;
  /** Of all connections. A newer claim may be known before the own one. */
  #newestClaim = 0;
  #state: "ours" | "moved" | "over" = "ours";
  /** By `performance.now()`: a connection that moves may stay until then. */
  #mayStayUntil = 0;
  #leaveTimer: NodeJS.Timeout | undefined;
  /** By `performance.now()`: until then, or until it learns of the claim, the older connection takes messages to the user. */
  #succeedsAt = 0;

  /**
   * @param options.onMoved once, when a newer claim is in force and this connection stays for a while.
   * @param options.onReplaced a newer claim is in force; `stayed`: the time beside the newer connection is over.
   */
  constructor(options: { sessionId: string; onMoved: () => void; onReplaced: (stayed: boolean) => void }) {
    this.#held = { sessionId: options.sessionId, claim: 0, checkedAt: 0 };
    this.#onMoved = options.onMoved;
    this.#onReplaced = options.onReplaced;
  }

  /** Claim 0: not in the session store yet. */
  get held(): SessionClaim {
    return this.#held;
  }

  /** A newer connection has the session, and this one may stay for a while. */
  get moved(): boolean {
    return this.#state === "moved";
  }

  /** Of a session's connections exactly one takes messages to the user. */
  get takesUserMessages(): boolean {
    return this.#state === "ours" && performance.now() >= this.#succeedsAt;
  }

  /** The claim is about to be sent: another connection may have the session. */
  expectClaim(): void {
    this.#succeedsAt = Infinity;
  }

  /** @param tookOver another connection had the session. One message notifies both. */
  applyClaim(held: SessionClaim, { tookOver }: { tookOver: boolean }): void {
    if (held.sessionId !== this.#held.sessionId) this.#newestClaim = 0;
    this.#held = held;
    const heard = this.#newestClaim >= held.claim;
    this.#succeedsAt = tookOver && !heard ? performance.now() + ownClaimMs : 0;
    this.#compare();
  }

  /** The store confirmed the claim. */
  confirm(checkedAt: number): void {
    this.#held = { ...this.#held, checkedAt };
  }

  /** A connection, on any node, has claimed the session. */
  noticeClaim(claim: number): void {
    this.#newestClaim = Math.max(this.#newestClaim, claim);
    if (claim >= this.#held.claim) this.#succeedsAt = 0;
    this.#compare();
  }

  /** Asked to move. Replaces an earlier request. */
  mayStayFor(ms: number): void {
    this.#mayStayUntil = performance.now() + ms;
    if (this.moved) this.giveWay();
  }

  /** A newer claim is in force. */
  giveWay(): void {
    clearTimeout(this.#leaveTimer);
    const leftMs = this.#mayStayUntil - performance.now();
    const { moved } = this;
    if (leftMs > 0) {
      this.#state = "moved";
      this.#leaveTimer = setTimeout(() => this.giveWay(), leftMs);
      if (!moved) this.#onMoved();
    } else {
      this.#state = "over";
      this.#onReplaced(moved);
    }
  }

  end(): void {
    clearTimeout(this.#leaveTimer);
  }

  #compare(): void {
    if (this.#held.claim !== 0 && this.#held.claim < this.#newestClaim && this.#state === "ours") this.giveWay();
  }
}
