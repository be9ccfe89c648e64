import { clockToleranceSeconds } from "../../shared/tokens/jwt.ts";
import { type IdentityKey, identityKey, type UserIdentity } from "../../shared/protocol/identity-key.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import type { DisconnectCode } from "../../shared/protocol/codes.ts";
import type { Disconnect, Drain } from "../../shared/protocol/wire.ts";
import type { Membership, Withdrawals } from "../../shared/sessions/contract.ts";
import type { ClientFlow } from "./client-flow.ts";
import type { Credentials } from "./authentication.ts";
import type { Connection } from "../outbox/connection.ts";
import { eventFrame, type Frame } from "../outbox/frames.ts";
import type { Outbox } from "../outbox/outbox.ts";
import { ReadTurns } from "../outbox/read-turns.ts";
import type { Resumable } from "./resume-token.ts";
import { type Held, Succession } from "./succession.ts";
import type { Subscription } from "../channels/subscription.ts";
import { OpenRequests } from "./open-requests.ts";
import { WithdrawnGrants } from "./withdrawn-grants.ts";

/** How a session ended on this connection. */
export type SessionEnd =
  /** Its client said so. */
  | { kind: "left" }
  /** It goes on elsewhere, as it was asked to. */
  | { kind: "moved" }
  /** The server did; `told`: its client has taken everything, why included. */
  | { kind: "ended"; code: DisconnectCode; told: boolean }
  | { kind: "broke" };

/** What was not sent by then is given up when a session is closed. */
const closeFlushMs = 2_000;
/** The longest time a timer of Node can wait; the token's end is looked at again then. */
const maxTimerMs = 2 ** 31 - 1;

/** One client's stay: who it is, what it follows, how it is told and how it ends. */
export class Session {
  readonly outbox: Outbox;
  readonly reads: ReadTurns;
  readonly requests = new OpenRequests();
  readonly subscriptions = new Map<string, Subscription>();
  /** Channels where others see it. */
  readonly memberships = new Map<string, Omit<Membership, "holder">>();
  /** What others see of the user. */
  readonly info: unknown;
  /** Its client moves by itself when it is asked to. */
  readonly moves: boolean;
  /** By `performance.now()`. */
  readonly openedAt = performance.now();
  /** How much it sends: events, and requests of the gateway's own. Kept from its first message. */
  flows: { events: ClientFlow; requests: ClientFlow } | undefined;
  readonly #connection: Pick<Connection, "close" | "terminate">;
  /** What the connect hook added to the token's channels. */
  readonly #grantedChannels: readonly string[];
  readonly succession: Succession;
  readonly #withdrawn = new WithdrawnGrants();
  /** Its user's: a new token changes neither name nor tenant. */
  readonly identityKey: IdentityKey;
  #credentials: Credentials;
  #expiry: NodeJS.Timeout | undefined;
  /** Why the server ended it; undefined while it lives, or where the client left. */
  #endedBy: DisconnectCode | undefined;
  #mayReturn = true;
  #left = false;
  #whenEnded: ((end: SessionEnd) => void) | undefined;
  #closing = false;
  #giveUp: NodeJS.Timeout | undefined;
  #welcomed = false;
  #resumed = false;
  #disposed = false;

  constructor(options: {
    sessionId: string;
    credentials: Credentials;
    grantedChannels: readonly string[];
    info: unknown;
    moves: boolean;
    outbox: Outbox;
    connection: Pick<Connection, "close" | "terminate">;
  }) {
    this.succession = new Succession({
      sessionId: options.sessionId,
      onReplaced: (stayed) => {
        // The newer connection may be gone by then, and this one the only one its client has.
        if (stayed) this.end("draining", "this session went on elsewhere", { reconnect: true });
        else this.end("replaced", "this session goes on elsewhere", { reconnect: false });
      },
    });
    this.moves = options.moves;
    this.info = options.info;
    this.outbox = options.outbox;
    this.reads = new ReadTurns(options.outbox);
    this.#connection = options.connection;
    this.#grantedChannels = options.grantedChannels;
    this.#credentials = options.credentials;
    this.identityKey = identityKey(options.credentials);
    this.#awaitExpiry();
  }

  get id(): string {
    return this.held.sessionId;
  }

  /** Claim 0: nobody has been told of it yet. */
  get held(): Held {
    return this.succession.held;
  }

  /** As the session store knows it. */
  get stored(): Held & UserIdentity {
    const { user, tenant } = this.#credentials;
    return { ...this.held, user, tenant };
  }

  /** @param options.resumed the session that was is the one that is. `tookOver`: somebody had it, and is told. */
  hold(held: Held, { resumed, tookOver }: { resumed: boolean; tookOver: boolean }): void {
    this.#resumed = resumed;
    this.succession.hold(held, { tookOver });
  }

  /** Somebody holds the session by this claim. The newest wins. */
  hearOf(claim: number): void {
    this.succession.hearOf(claim);
  }

  /** It goes on elsewhere, as it was asked to, and its client has not left this connection yet. */
  get moved(): boolean {
    return this.succession.moved;
  }

  /** Its client is asked to go on elsewhere, in its slot. Where it was asked before, that counts no more. */
  askToMove(drain: Drain): void {
    if (this.#endedBy || this.#disposed) return;
    this.succession.mayStayFor(drain.deadlineInMs);
    this.outbox.send(eventFrame("sync:drain", drain));
  }

  get resumed(): boolean {
    return this.#resumed;
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  get resumable(): Resumable {
    const { info } = this;
    return { ...this.held, credentials: this.#credentials, grantedChannels: this.#grantedChannels, info };
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
    this.#withdrawn.withdraw(withdrawn);
  }

  /** Later than what was withdrawn before. @param now by the store's clock, which we may be behind. */
  dateGrant(channel: string, now: number): number {
    return Math.max(now, this.#withdrawn.at(channel) + 1);
  }

  /** @param at when the grant was issued. */
  isWithdrawn(channel: string, at: number): boolean {
    return this.#withdrawn.at(channel) >= at;
  }

  get endedBy(): DisconnectCode | undefined {
    return this.#endedBy;
  }

  /** Its client is expected to go on with it soon, here or elsewhere. */
  get mayReturn(): boolean {
    return this.#mayReturn || this.moved;
  }

  /** The client said so. */
  leave(): void {
    this.#mayReturn = false;
    this.#left = true;
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
    this.#giveUp = setTimeout(() => this.#connection.terminate(), closeFlushMs);
    this.outbox.whenEmpty(() => {
      clearTimeout(this.#giveUp);
      this.#closing = true;
      this.#connection.close(!reconnect, (told) => this.#tellEnd({ kind: "ended", code, told }));
    });
  }

  /** Called once: how it ended, as soon as that is known. One caller. */
  whenEnded(callback: (end: SessionEnd) => void): void {
    this.#whenEnded = callback;
  }

  /** For a client that breaks the bounds of the protocol: with a reset, so that nothing more of it is read. */
  cut(): void {
    this.#connection.terminate();
  }

  /** For a client that does not read: nothing can be told any more. */
  terminate(code: DisconnectCode): void {
    this.#endedBy ??= code;
    this.#connection.terminate();
  }

  /** The transport is gone, or never was accepted. */
  dispose(): void {
    this.#disposed = true;
    clearTimeout(this.#expiry);
    clearTimeout(this.#giveUp);
    const { moved } = this;
    this.succession.end();
    this.outbox.close();
    for (const subscription of this.subscriptions.values()) subscription.end();
    // In order: known once the peer has answered.
    if (this.#closing) return;
    if (this.#endedBy) this.#tellEnd({ kind: "ended", code: this.#endedBy, told: false });
    else this.#tellEnd({ kind: moved ? "moved" : this.#left ? "left" : "broke" });
  }

  #tellEnd(end: SessionEnd): void {
    const callback = this.#whenEnded;
    this.#whenEnded = undefined;
    callback?.(end);
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
