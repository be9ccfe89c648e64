import { clockToleranceSeconds } from "../../shared/jwt.ts";
import type { Identity } from "../../shared/http/identity-token.ts";
import type { DisconnectCode } from "../../shared/protocol/codes.ts";
import type { Disconnect } from "../../shared/protocol/wire.ts";
import { type Claim, everyChannel, type Membership, type Withdrawals } from "../../shared/sessions/store.ts";
import type { Credentials } from "./authentication.ts";
import { eventFrame, type Frame } from "../sockets/frames.ts";
import type { Outbox } from "../sockets/outbox.ts";
import { ReplayTurns } from "../sockets/replay-turns.ts";
import type { Resumable } from "./resume-token.ts";
import type { Subscription } from "../channels/subscription.ts";

/** The transport under a session, as far as a session needs it. */
export interface Transport {
  /** Ends it in order; `announce`: with a Socket.IO DISCONNECT, after which a stock client stays away. */
  close(announce: boolean): void;
  /** Ends it now, whatever waits to be sent. */
  terminate(): void;
}

type Held = Claim & { sessionId: string };

/** What was not sent by then is given up when a session is closed. */
const closeFlushMs = 2_000;
/** The longest time a timer of Node can wait; the token's end is looked at again then. */
const maxTimerMs = 2 ** 31 - 1;

/** One client's stay: who it is, what it follows, how it is told and how it ends. */
export class Session {
  readonly outbox: Outbox;
  readonly replayTurns: ReplayTurns;
  readonly subscriptions = new Map<string, Subscription>();
  /** Channels where others see it. */
  readonly memberships = new Map<string, Omit<Membership, "holder">>();
  /** What others see of the user. */
  readonly info: unknown;
  /** A client that has sent binary may hide it anywhere: its data is searched. */
  binarySeen = false;
  readonly #transport: Transport;
  /** What the connect hook added to the token's channels. */
  readonly #grantedChannels: readonly string[];
  #held: Held;
  /** Of all that were heard of; our own may be known after a newer one. */
  #newestClaim = 0;
  #withdrawn: Withdrawals = new Map();
  #credentials: Credentials;
  #expiry: NodeJS.Timeout | undefined;
  /** Why the server ended it; undefined while it lives, or where the client left. */
  #endedBy: DisconnectCode | undefined;
  #mayReturn = true;
  #welcomed = false;
  #resumed = false;
  #disposed = false;

  constructor(options: {
    sessionId: string;
    credentials: Credentials;
    grantedChannels: readonly string[];
    info: unknown;
    outbox: Outbox;
    transport: Transport;
  }) {
    this.#held = { sessionId: options.sessionId, claim: 0, checkedAt: 0 };
    this.info = options.info;
    this.outbox = options.outbox;
    this.replayTurns = new ReplayTurns(options.outbox);
    this.#transport = options.transport;
    this.#grantedChannels = options.grantedChannels;
    this.#credentials = options.credentials;
    this.#awaitExpiry();
  }

  get id(): string {
    return this.#held.sessionId;
  }

  /** Claim 0: nobody has been told of it yet. */
  get held(): Held {
    return this.#held;
  }

  /** @param options.resumed the session that was is the one that is. */
  hold(held: Held, { resumed }: { resumed: boolean }): void {
    if (held.sessionId !== this.id) this.#newestClaim = 0;
    this.#held = held;
    this.#resumed = resumed;
    this.#yield();
  }

  /** The store has been asked again, and knows nothing against it. */
  confirm(checkedAt: number): void {
    this.#held = { ...this.#held, checkedAt };
  }

  /** Somebody holds the session by this claim. The newest wins. */
  hearOf(claim: number): void {
    this.#newestClaim = Math.max(this.#newestClaim, claim);
    this.#yield();
  }

  get resumed(): boolean {
    return this.#resumed;
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  get resumable(): Resumable {
    const { info } = this;
    return { ...this.#held, credentials: this.#credentials, grantedChannels: this.#grantedChannels, info };
  }

  get user(): string {
    return this.#credentials.user;
  }

  get expiresAt(): number {
    return this.#credentials.expiresAt;
  }

  get identity(): Identity {
    const { user, tenant, claims } = this.#credentials;
    return { user, sessionId: this.id, ...(tenant !== undefined && { tenant }), claims };
  }

  /** Patterns of the channels it may follow without asking. */
  get channelPatterns(): readonly string[] {
    return [...this.#credentials.channels, ...this.#grantedChannels];
  }

  /** Grants that count no more. */
  withdraw(withdrawn: Withdrawals): void {
    const merged = new Map(this.#withdrawn);
    // What is heard last may have been said first.
    for (const [name, at] of withdrawn) merged.set(name, Math.max(at, merged.get(name) ?? 0));
    this.#withdrawn = merged;
  }

  /** Later than what was withdrawn before. @param now by the store's clock, which we may be behind. */
  dateGrant(channel: string, now: number): number {
    return Math.max(now, this.#withdrawnAt(channel) + 1);
  }

  /** @param at when the grant was issued. */
  isWithdrawn(channel: string, at: number): boolean {
    return this.#withdrawnAt(channel) >= at;
  }

  #withdrawnAt(channel: string): number {
    return Math.max(this.#withdrawn.get(channel) ?? 0, this.#withdrawn.get(everyChannel) ?? 0);
  }

  get endedBy(): DisconnectCode | undefined {
    return this.#endedBy;
  }

  /** Its client is expected to go on with it soon, here or elsewhere. */
  get mayReturn(): boolean {
    return this.#mayReturn;
  }

  /** The client said so. */
  leave(): void {
    this.#mayReturn = false;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** It has begun, as far as its client knows. */
  get welcomed(): boolean {
    return this.#welcomed;
  }

  /** Opens the outbox with the welcome. */
  welcome(frame: Frame): void {
    this.#welcomed = true;
    this.outbox.open(frame);
  }

  /** A new token of the same user. */
  renew(credentials: Credentials): void {
    if (this.#disposed) return;
    this.#credentials = credentials;
    this.#awaitExpiry();
  }

  /** Tells the client why, then closes. Later calls do nothing. */
  end(code: DisconnectCode, reason: string, options: { reconnect: boolean; retryAfterMs?: number }): void {
    if (this.#endedBy || this.#disposed) return;
    this.#endedBy = code;
    const { reconnect, retryAfterMs } = options;
    this.#mayReturn = reconnect || code === "replaced";
    const notice: Disconnect = { code, reason, reconnect, ...(retryAfterMs !== undefined && { retryAfterMs }) };
    this.outbox.send(eventFrame("sync:disconnect", notice));
    const giveUp = setTimeout(() => this.#transport.terminate(), closeFlushMs);
    this.outbox.whenEmpty(() => {
      clearTimeout(giveUp);
      this.#transport.close(!reconnect);
    });
  }

  /** For a client that breaks the bounds of the protocol: closes without a word. */
  cut(): void {
    this.#transport.close(false);
  }

  /** For a client that does not read: nothing can be told any more. */
  terminate(code: DisconnectCode): void {
    this.#endedBy ??= code;
    this.#transport.terminate();
  }

  /** The transport is gone, or never was accepted. */
  dispose(): void {
    this.#disposed = true;
    clearTimeout(this.#expiry);
    this.outbox.close();
    for (const subscription of this.subscriptions.values()) subscription.end();
  }

  #yield(): void {
    if (this.#held.claim === 0 || this.#held.claim >= this.#newestClaim) return;
    this.end("replaced", "this session goes on elsewhere", { reconnect: false });
  }

  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    const leftMs = this.expiresAt + clockToleranceSeconds * 1000 - Date.now();
    this.#expiry = setTimeout(
      () => {
        if (leftMs > maxTimerMs) this.#awaitExpiry();
        else this.end("token_expired", "the token has expired", { reconnect: true });
      },
      Math.min(leftMs, maxTimerMs),
    );
  }
}
