import type { Claim } from "../../shared/sessions/contract.ts";

export type Held = Claim & { sessionId: string };

/** What is told of our own claim, to us as to the one before, arrives within this, or was missed. */
const ownClaimMs = 1_000;

/**
 * Which of its connections a session goes on with: this one, or one that claims it later. The newest claim wins. One that
 * was asked to move stays for a while beside the newer one: what is on its way is finished here, what is new begins there.
 */
export class Succession {
  readonly #onReplaced: (stayed: boolean) => void;
  #held: Held;
  /** Of all that were heard of; our own may be known after a newer one. */
  #newestClaim = 0;
  #state: "ours" | "moved" | "over" = "ours";
  /** By `performance.now()`: asked to move, with leave to stay until then. */
  #mayStayUntil = 0;
  #leaveTimer: NodeJS.Timeout | undefined;
  /** By `performance.now()`: messages to the user reach the one before until we hear of our claim, as it does, or until then. */
  #succeedsAt = 0;

  /** @param options.onReplaced a newer claim was made, and there is no leave to stay, or, where it `stayed`, no more. */
  constructor(options: { sessionId: string; onReplaced: (stayed: boolean) => void }) {
    this.#held = { sessionId: options.sessionId, claim: 0, checkedAt: 0 };
    this.#onReplaced = options.onReplaced;
  }

  /** Claim 0: nobody has been told of it yet. */
  get held(): Held {
    return this.#held;
  }

  /** It goes on elsewhere, and its client has not left this connection yet. */
  get moved(): boolean {
    return this.#state === "moved";
  }

  /** Every message to the user reaches one of the connections of a session. */
  get takesUserMessages(): boolean {
    return this.#state === "ours" && performance.now() >= this.#succeedsAt;
  }

  /** Before its claim: somebody may have the session still. */
  expect(): void {
    this.#succeedsAt = Infinity;
  }

  /** @param tookOver somebody had it, and is told by the same message as we are. */
  hold(held: Held, { tookOver }: { tookOver: boolean }): void {
    if (held.sessionId !== this.#held.sessionId) this.#newestClaim = 0;
    this.#held = held;
    const heard = this.#newestClaim >= held.claim;
    this.#succeedsAt = tookOver && !heard ? performance.now() + ownClaimMs : 0;
    this.#compare();
  }

  /** The store has been asked again, and knows nothing against it. */
  confirm(checkedAt: number): void {
    this.#held = { ...this.#held, checkedAt };
  }

  hearOf(claim: number): void {
    this.#newestClaim = Math.max(this.#newestClaim, claim);
    if (claim >= this.#held.claim) this.#succeedsAt = 0;
    this.#compare();
  }

  /** Asked to move; again where it was before. */
  mayStayFor(ms: number): void {
    this.#mayStayUntil = performance.now() + ms;
    if (this.moved) this.giveWay();
  }

  /** A newer claim is in force. */
  giveWay(): void {
    clearTimeout(this.#leaveTimer);
    const leftMs = this.#mayStayUntil - performance.now();
    if (leftMs > 0) {
      this.#state = "moved";
      this.#leaveTimer = setTimeout(() => this.giveWay(), leftMs);
    } else {
      const stayed = this.moved;
      this.#state = "over";
      this.#onReplaced(stayed);
    }
  }

  end(): void {
    clearTimeout(this.#leaveTimer);
  }

  #compare(): void {
    if (this.#held.claim !== 0 && this.#held.claim < this.#newestClaim && this.#state === "ours") this.giveWay();
  }
}
