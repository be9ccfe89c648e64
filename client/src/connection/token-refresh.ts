import { boundedRetryAfterMs } from "../../../shared/protocol/retry-after.ts";
import type { RefreshAck } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "./connection.ts";
import type { Credentials } from "./credentials.ts";
import { type Random, repeatDelayMs } from "../calls/backoff.ts";
import { isDoubtful, refreshDelayMs } from "./timing.ts";

/** The sessions of a whole room may be asked for newer tokens at the same moment. */
const askedSpreadMs = 2_000;

/** A refresh that has not succeeded yet. */
interface Attempt {
  isFetching: boolean;
  /** The gateway asked for the token. */
  isAsked: boolean;
}

/** Sends `sync:refresh` with a fresh token before the session expires, or when the gateway asks for one. Owns one timer. */
export class TokenRefresh {
  readonly #credentials: Credentials;
  readonly #random: Random;
  readonly #onGrant: (channel: string, grant: string) => void;
  #connection: GatewayConnection | null = null;
  /** By the last refresh. */
  #expiresAt: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Of this connection. */
  #attempt: Attempt | null = null;
  /** Failures in a row of refreshes that the gateway asked for. */
  #failures = 0;
  /** Schedules in a row that doubted the clock. */
  #doubts = 0;

  /** @param onGrant called for each grant that the gateway renews along with the token */
  constructor(credentials: Credentials, random: Random, onGrant: (channel: string, grant: string) => void) {
    this.#credentials = credentials;
    this.#random = random;
    this.#onGrant = onGrant;
  }

  /** May follow `stop()`. @param expiresAt Unix ms, from the welcome */
  start(connection: GatewayConnection, expiresAt: number): void {
    this.stop();
    this.#connection = connection;
    this.#expiresAt ??= expiresAt;
    if (this.#credentials.renewable) this.#schedule(this.#expiresAt);
  }

  /** A request of the gateway that no refresh has met yet holds for the next `start()`. */
  stop(): void {
    if (this.#attempt?.isAsked) this.#credentials.outdated = true;
    this.#attempt = null;
    this.#connection = null;
    clearTimeout(this.#timer);
  }

  /** The gateway asks for a newer token: within 2 s, or after the next `start()`. A token that is being fetched will do. A fixed token stays. */
  ask(): void {
    if (this.#attempt?.isFetching) {
      this.#attempt.isAsked = true;
      return;
    }
    if (this.#credentials.outdated || !this.#credentials.renewable) return;
    this.#credentials.outdated = true;
    if (this.#expiresAt !== null && this.#connection) this.#schedule(this.#expiresAt);
  }

  /** @param options.askedInMs delay of a refresh that the gateway asked for, unless another one is due before. */
  #schedule(
    expiresAt: number,
    { isFresh = false, minDelayMs = 0, askedInMs = askedSpreadMs * this.#random() } = {},
  ): void {
    const { lifetimeMs, outdated } = this.#credentials;
    const time = { remainingMs: expiresAt - Date.now(), lifetimeMs, isFresh };
    const regularMs = refreshDelayMs(time, this.#doubts, this.#random);
    const delayMs = Math.max(minDelayMs, outdated ? Math.min(askedInMs, regularMs) : regularMs);
    this.#doubts = isDoubtful(time) ? this.#doubts + 1 : 0;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#refresh(expiresAt), delayMs);
  }

  async #refresh(expiresAt: number): Promise<void> {
    const connection = this.#connection;
    const attempt: Attempt = { isFetching: true, isAsked: this.#credentials.outdated };
    this.#attempt = attempt;
    const token = await this.#credentials.fetchToken().catch(() => null);
    attempt.isFetching = false;
    if (!connection || this.#connection !== connection) return;
    if (token === null) return this.#failed(attempt, expiresAt);
    connection.request<RefreshAck>("sync:refresh", [{ token }], (ack) => {
      if (this.#connection !== connection) return;
      if (!ack.ok) return this.#failed(attempt, expiresAt, boundedRetryAfterMs(ack.error.retryAfterMs));
      this.#end(attempt);
      this.#failures = 0;
      this.#credentials.renewed(token, ack.resumeToken);
      for (const [channel, grant] of Object.entries(ack.grants ?? {})) this.#onGrant(channel, grant);
      this.#expiresAt = ack.expiresAt;
      this.#schedule(ack.expiresAt, { isFresh: true });
    });
  }

  /**
   * Retries at shrinking intervals, until the gateway disconnects with `token_expired`. What the gateway asked for is
   * retried with a backoff: the next regular refresh may be hours away.
   */
  #failed(attempt: Attempt, expiresAt: number, retryAfterMs = 0): void {
    this.#end(attempt);
    if (!attempt.isAsked) return this.#schedule(expiresAt, { minDelayMs: retryAfterMs });
    this.#credentials.outdated = true;
    const askedInMs = repeatDelayMs(this.#failures++, retryAfterMs, this.#random);
    this.#schedule(expiresAt, { minDelayMs: retryAfterMs, askedInMs });
  }

  #end(attempt: Attempt): void {
    if (this.#attempt === attempt) this.#attempt = null;
  }
}
