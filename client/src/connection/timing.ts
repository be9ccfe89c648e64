/** When to try again, and when to refresh a token. No clock and no timer in here: times come in, delays go out. */
import type { ReconnectPolicy } from "../../../shared/protocol/wire.ts";

/** A uniformly random number in [0, 1). */
export type Random = () => number;

const baseBackoffMs = 1_000;
const maxBackoffMs = 30_000;
/** A connection that lasted this long was a success; a shorter one counts as another failure. */
const lastingMs = 10_000;
/** So that a `retryAfterMs` of 0 is no busy loop. */
const minRetryAfterMs = 100;
/** A longer timer would fire at once. */
export const maxTimerMs = 2 ** 31 - 1;

/**
 * Full jitter: a random moment between now and an exponentially growing bound, 1 s for the first failure, `maxMs` at
 * most. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffDelayMs(earlierFailures: number, random: Random, maxMs = maxBackoffMs): number {
  return random() * Math.min(maxMs, baseBackoffMs * 2 ** earlierFailures);
}

/** How long a call that is repeated waits: what the refusal asks for, and a little jitter, growing with the tries. */
export function repeatDelayMs(earlierTries: number, retryAfterMs: number | undefined, random: Random): number {
  return Math.max(minRetryAfterMs, (retryAfterMs ?? 0) + backoffDelayMs(earlierTries, random));
}

/**
 * How long to wait before a token is refreshed: 70 to 90 % of what remains, so that tokens issued together are not
 * refreshed together, and a failed refresh still has time for several more. Nothing remaining means that the clocks
 * disagree; then the gateway's own `token_expired` decides, and this only tries now and then.
 */
export function refreshDelayMs(remainingMs: number, random: Random): number {
  if (remainingMs <= 0) return 30_000;
  return Math.min(maxTimerMs, Math.max(1_000, remainingMs * (0.7 + 0.2 * random())));
}

/** Why a new try is due. */
export interface Setback {
  /** The gateway's word; it overrides everything else. */
  retryAfterMs?: number | undefined;
  /** Token or resume token were refused: another may do at once. */
  credentialsRefused?: boolean;
  /** The reconnect window, where a working connection broke, or the bootstrap endpoint told one. */
  policy?: ReconnectPolicy | undefined;
}

/** Decides when the next try to connect is due. */
export class RetrySchedule {
  readonly #random: Random;
  #failures = 0;
  #tokenAskedAgain = false;
  /** So wide the fleet wants its clients spread: while it is down, tries are spread as wide. */
  #maxBackoffMs = maxBackoffMs;

  constructor(random: Random) {
    this.#random = random;
  }

  /** A connection ended `lastedMs` after its welcome. Only one that lasted resets the backoff. */
  connectionEnded(lastedMs: number): void {
    if (lastedMs < lastingMs) return;
    this.#failures = 0;
    this.#tokenAskedAgain = false;
  }

  /** Milliseconds until the next try. Each call counts as a failure. */
  nextDelayMs({ retryAfterMs, credentialsRefused, policy }: Setback): number {
    const failures = this.#failures++;
    if (policy) this.#maxBackoffMs = Math.max(maxBackoffMs, policy.minDelayMs + policy.windowMs);
    if (retryAfterMs !== undefined) return Math.min(maxTimerMs, Math.max(minRetryAfterMs, retryAfterMs));
    if (credentialsRefused && !this.#tokenAskedAgain) {
      this.#tokenAskedAgain = true;
      return 0;
    }
    const backoffMs = backoffDelayMs(failures, this.#random, this.#maxBackoffMs);
    if (!policy) return backoffMs;
    const windowMs = policy.minDelayMs + this.#random() * policy.windowMs;
    return Math.min(maxTimerMs, failures === 0 ? windowMs : Math.max(windowMs, backoffMs));
  }
}
