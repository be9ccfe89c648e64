/** When to connect again, and when to refresh a token. Reads no clock and sets no timer. */
import type { ReconnectPolicy } from "../../../shared/protocol/wire.ts";
import { backoffDelayMs, maxBackoffMs, maxTimerMs, minRetryAfterMs, type Random } from "../calls/backoff.ts";

/** A shorter connection counts as another failure. */
const successMs = 10_000;

const firstDoubtMs = 30_000;
/** Assumed where the token does not tell its lifetime. */
const defaultLifetimeMs = 3_600_000;

/** A token's time as the local clock shows it. The gateway's `token_expired` decides. */
export interface TokenTime {
  remainingMs: number;
  /** From the token itself. */
  lifetimeMs: number | undefined;
  /** The token function has just returned it. */
  isFresh: boolean;
}

/** The local clock is ahead, or the token function returns old tokens: it is over, or nearly over although it is fresh. */
export function isDoubtful({ remainingMs, lifetimeMs, isFresh }: TokenTime): boolean {
  return remainingMs <= 0 || (isFresh && lifetimeMs !== undefined && remainingMs < lifetimeMs / 10);
}

/**
 * Delay before a token refresh: 70 to 90 % of the remaining lifetime. Spreads tokens that were issued together, and
 * leaves time for retries. In doubt about the clock: 30 s, doubled with each doubt in a row, up to that part of a lifetime.
 */
export function refreshDelayMs(time: TokenTime, earlierDoubts: number, random: Random): number {
  const { remainingMs, lifetimeMs = defaultLifetimeMs } = time;
  const part = 0.7 + 0.2 * random();
  if (isDoubtful(time)) return Math.min(firstDoubtMs * 2 ** earlierDoubts, lifetimeMs * part);
  // A clock that is behind shows more than the whole lifetime.
  const leftMs = time.lifetimeMs === undefined ? remainingMs : Math.min(remainingMs, lifetimeMs);
  return Math.min(maxTimerMs, Math.max(1_000, leftMs * part));
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

  /** The browser is online again: failures before that were its own. */
  networkReturned(): void {
    this.#failures = 0;
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
