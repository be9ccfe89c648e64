/** When to connect again, and when to refresh a token. Reads no clock and sets no timer. */
import type { ReconnectPolicy } from "../../../shared/protocol/wire.ts";
import { backoffDelayMs, maxBackoffMs, maxTimerMs, minRetryAfterMs, type Random } from "../calls/backoff.ts";

/** A shorter connection counts as another failure. */
const successMs = 10_000;

/**
 * Delay before a token refresh: 70 to 90 % of the remaining lifetime. Spreads tokens that were issued together, and
 * leaves time for retries. A lifetime that is over means that the clocks disagree: 30 s, and the gateway's
 * `token_expired` decides.
 */
export function refreshDelayMs(remainingMs: number, random: Random): number {
  if (remainingMs <= 0) return 30_000;
  return Math.min(maxTimerMs, Math.max(1_000, remainingMs * (0.7 + 0.2 * random())));
}

/** What is known about the retry that is due. */
export interface RetryHints {
  /** From the gateway; overrides everything else. */
  retryAfterMs?: number | undefined;
  /** The token or resume token was refused, and others can be presented at once. */
  credentialsRefused?: boolean;
  /** The reconnect window: after the loss of a working connection, or from the bootstrap endpoint. */
  policy?: ReconnectPolicy | undefined;
}

/** Decides when the next attempt to connect is due. */
export class RetrySchedule {
  readonly #random: Random;
  #failures = 0;
  #freshCredentialsTried = false;
  /** At least as wide as the last reconnect window: while a fleet is down, retries stay spread that wide. */
  #maxBackoffMs = maxBackoffMs;

  constructor(random: Random) {
    this.#random = random;
  }

  /** A connection ended, `connectedMs` after its welcome. Resets the backoff from 10 s on. */
  connectionEnded(connectedMs: number): void {
    if (connectedMs < successMs) return;
    this.#failures = 0;
    this.#freshCredentialsTried = false;
  }

  /** Milliseconds until the next attempt. Each call counts as a failure. */
  nextDelayMs({ retryAfterMs, credentialsRefused, policy }: RetryHints): number {
    const failures = this.#failures++;
    if (policy) this.#maxBackoffMs = Math.max(maxBackoffMs, policy.minDelayMs + policy.windowMs);
    if (retryAfterMs !== undefined) return Math.min(maxTimerMs, Math.max(minRetryAfterMs, retryAfterMs));
    if (credentialsRefused && !this.#freshCredentialsTried) {
      this.#freshCredentialsTried = true;
      return 0;
    }
    const backoffMs = backoffDelayMs(failures, this.#random, this.#maxBackoffMs);
    if (!policy) return backoffMs;
    const windowMs = policy.minDelayMs + this.#random() * policy.windowMs;
    return Math.min(maxTimerMs, failures === 0 ? windowMs : Math.max(windowMs, backoffMs));
  }
}
