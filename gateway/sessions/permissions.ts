import { everyChannel, type Withdrawals } from "../../shared/sessions/contract.ts";
import { clockToleranceSeconds } from "../../shared/tokens/jwt.ts";
import type { Credentials } from "./authentication.ts";

/** The longest delay of a Node timer: the token's expiry is checked again then. */
const maxTimerMs = 2 ** 31 - 1;

/** What a session may do, and until when: by its token, the connect hook, and grants that were not withdrawn. */
export class Permissions {
  /** Patterns that the connect hook added to the token's channels. */
  readonly grantedChannels: readonly string[];
  readonly #onExpired: () => void;
  #credentials: Credentials;
  #expiry: NodeJS.Timeout | undefined;
  #withdrawn: Withdrawals = new Map();

  constructor(options: { credentials: Credentials; grantedChannels: readonly string[]; onExpired: () => void }) {
    this.grantedChannels = options.grantedChannels;
    this.#onExpired = options.onExpired;
    this.#credentials = options.credentials;
    this.#awaitExpiry();
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  /** Patterns of the channels that the session may follow without a grant. */
  get channelPatterns(): readonly string[] {
    return [...this.#credentials.channels, ...this.grantedChannels];
  }

  /** A new token of the same user. */
  renew(credentials: Credentials): void {
    this.#credentials = credentials;
    this.#awaitExpiry();
  }

  /** In any order: the latest withdrawal of each channel counts. */
  withdraw(withdrawn: Withdrawals): void {
    const merged = new Map(this.#withdrawn);
    for (const [name, at] of withdrawn) merged.set(name, Math.max(at, merged.get(name) ?? 0));
    this.#withdrawn = merged;
  }

  /** Dates a new grant: later than every withdrawal. @param now by the store's clock, which this node may be behind. */
  dateGrant(channel: string, now: number): number {
    return Math.max(now, this.#withdrawnAt(channel) + 1);
  }

  /** @param at when the grant was issued. */
  isWithdrawn(channel: string, at: number): boolean {
    return this.#withdrawnAt(channel) >= at;
  }

  end(): void {
    clearTimeout(this.#expiry);
  }

  /** 0: never. */
  #withdrawnAt(channel: string): number {
    return Math.max(this.#withdrawn.get(channel) ?? 0, this.#withdrawn.get(everyChannel) ?? 0);
  }

  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    const leftMs = this.#credentials.expiresAt + clockToleranceSeconds * 1000 - Date.now();
    this.#expiry = setTimeout(
      () => {
        if (leftMs > maxTimerMs) this.#awaitExpiry();
        else this.#onExpired();
      },
      Math.min(leftMs, maxTimerMs),
    );
  }
}
