import { allChannels, everyChannel, type Withdrawals } from "../../shared/sessions/contract.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import { clockToleranceSeconds } from "../../shared/tokens/jwt.ts";
import type { Credentials } from "./authentication.ts";

/** Between two looks at the node's clock, which may be set before the token expires. */
const maxTimerMs = 60_000;

/** What a session may do, and until when: by its token, the connect hook, and grants that were not withdrawn. */
export class Permissions {
  readonly #onExpired: () => void;
  readonly #storeNow: () => number;
  #credentials: Credentials;
  #grantedChannels: readonly string[];
  /** Unix ms. */
  #issuedAt: number;
  #expiry: NodeJS.Timeout | undefined;
  #withdrawn: Withdrawals = new Map();
  /** Questions to the connect hook since the session began. */
  #asked = 0;
  /** The one whose answer counts. */
  #answered = 0;

  constructor(options: {
    credentials: Credentials;
    /** Left out: as the token says. */
    issuedAt?: number | undefined;
    grantedChannels: readonly string[];
    /** Unix ms by the store's clock, which dates withdrawals. */
    storeNow: () => number;
    onExpired: () => void;
  }) {
    this.#grantedChannels = options.grantedChannels;
    this.#onExpired = options.onExpired;
    this.#storeNow = options.storeNow;
    this.#credentials = options.credentials;
    this.#issuedAt = options.issuedAt ?? issuedAtOf(options.credentials, options.storeNow());
    this.#awaitExpiry();
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  /** Of the token. Unix ms. */
  get issuedAt(): number {
    return this.#issuedAt;
  }

  /** Patterns that the connect hook added to the token's channels. */
  get grantedChannels(): readonly string[] {
    return this.#grantedChannels;
  }

  /** Whether the token or the connect hook allows the channel, and nothing withdrew that since the token was issued. */
  allows(channel: string): boolean {
    const withdrawnAt = Math.max(this.#withdrawn.get(channel) ?? 0, this.#withdrawn.get(allChannels) ?? 0);
    if (withdrawnAt > 0 && withdrawnAt >= this.#issuedAt) return false;
    return [this.#credentials.channels, this.#grantedChannels].some((patterns) =>
      patterns.some((pattern) => matchesPattern(pattern, channel)),
    );
  }

  /** @returns the number of a question to the connect hook that is about to be asked. */
  nextQuestion(): number {
    this.#asked += 1;
    return this.#asked;
  }

  /** Replaces what the connect hook granted before. @returns false, without effect, after the answer to a later question. */
  grantChannels(patterns: readonly string[], question: number): boolean {
    if (question < this.#answered) return false;
    this.#answered = question;
    this.#grantedChannels = patterns;
    return true;
  }

  /** A new token of the same user. */
  renew(credentials: Credentials): void {
    // A token that the session has already may lack `iat`: it does not become newer.
    if (credentials.tokenId !== this.#credentials.tokenId) this.#issuedAt = issuedAtOf(credentials, this.#storeNow());
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
    return Math.max(0, ...[channel, everyChannel, allChannels].map((name) => this.#withdrawn.get(name) ?? 0));
  }

  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    const endsAt = this.#credentials.expiresAt + clockToleranceSeconds * 1000;
    this.#expiry = setTimeout(
      () => {
        if (Date.now() < endsAt) this.#awaitExpiry();
        else this.#onExpired();
      },
      Math.min(endsAt - Date.now(), maxTimerMs),
    );
  }
}

/** By the token's `iat`; without one, when the session first presented it. @param now by the store's clock. */
function issuedAtOf({ claims }: Credentials, now: number): number {
  const { iat } = claims;
  return typeof iat === "number" ? Math.min(iat * 1000, now) : now;
}
