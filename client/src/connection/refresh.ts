import { boundedRetryAfterMs } from "../../../shared/protocol/retry-after.ts";
import type { RefreshAck } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "./connection.ts";
import type { Credentials } from "./credentials.ts";
import { type Random, refreshDelayMs } from "./timing.ts";

/** Prolongs the session before it expires, as long as its connection is the newest one. */
export class Refresh {
  readonly #credentials: Credentials;
  readonly #random: Random;
  readonly #onGrant: (channel: string, grant: string) => void;
  #connection: GatewayConnection | null = null;
  /** As prolonged last. */
  #expiresAt: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param onGrant told of each grant that was renewed with the token. */
  constructor(credentials: Credentials, random: Random, onGrant: (channel: string, grant: string) => void) {
    this.#credentials = credentials;
    this.#random = random;
    this.#onGrant = onGrant;
  }

  /** Once more after `stop()`, too. @param expiresAt Unix ms, by the welcome */
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

  #schedule(expiresAt: number, notBeforeMs = 0): void {
    const delayMs = Math.max(notBeforeMs, refreshDelayMs(expiresAt - Date.now(), this.#random));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#refresh(expiresAt), delayMs);
  }

  /** Where it fails it is tried again, ever sooner; in the end the gateway says `token_expired`. */
  async #refresh(expiresAt: number): Promise<void> {
    const connection = this.#connection;
    const token = await this.#credentials.ask().catch(() => null);
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
