import { boundedRetryAfterMs } from "../../../shared/protocol/retry-after.ts";
import type { RefreshAck } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "./connection.ts";
import type { Credentials } from "./credentials.ts";
import type { Random } from "../calls/backoff.ts";
import { refreshDelayMs } from "./timing.ts";

/** Sends `sync:refresh` with a fresh token before the session expires. Owns one timer. */
export class TokenRefresh {
  readonly #credentials: Credentials;
  readonly #random: Random;
  readonly #onGrant: (channel: string, grant: string) => void;
  #connection: GatewayConnection | null = null;
  /** By the last refresh. */
  #expiresAt: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

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

  stop(): void {
    this.#connection = null;
    clearTimeout(this.#timer);
  }

  #schedule(expiresAt: number, minDelayMs = 0): void {
    const delayMs = Math.max(minDelayMs, refreshDelayMs(expiresAt - Date.now(), this.#random));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#refresh(expiresAt), delayMs);
  }

  /** Retries a failed refresh at shrinking intervals, until the gateway disconnects with `token_expired`. */
  async #refresh(expiresAt: number): Promise<void> {
    const connection = this.#connection;
    const token = await this.#credentials.fetchToken().catch(() => null);
    if (!connection || this.#connection !== connection) return;
    if (token === null) return this.#schedule(expiresAt);
    connection.request<RefreshAck>("sync:refresh", [{ token }], (ack) => {
      if (this.#connection !== connection) return;
      if (!ack.ok) return this.#schedule(expiresAt, boundedRetryAfterMs(ack.error.retryAfterMs));
      this.#credentials.renewed(token, ack.resumeToken);
      for (const [channel, grant] of Object.entries(ack.grants ?? {})) this.#onGrant(channel, grant);
      this.#expiresAt = ack.expiresAt;
      this.#schedule(ack.expiresAt);
    });
  }
}
