import { type IdentityKey, identityKey, type UserIdentity } from "../../shared/protocol/identity-key.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import type { DisconnectCode } from "../../shared/protocol/codes.ts";
import type { Disconnect, Drain } from "../../shared/protocol/wire.ts";
import type { Membership, SessionEnding } from "../../shared/sessions/contract.ts";
import type { ClientFlow } from "./client-flow.ts";
import type { Credentials } from "./authentication.ts";
import type { Connection } from "../outbox/connection.ts";
import { eventFrame, type Frame } from "../outbox/frames.ts";
import type { Outbox } from "../outbox/outbox.ts";
import { ReadTurns } from "../outbox/read-turns.ts";
import type { Resumable } from "./resume-token.ts";
import { type SessionClaim, Succession } from "./succession.ts";
import type { Subscription } from "../channels/subscription.ts";
import { OpenRequests } from "./open-requests.ts";
import { Permissions } from "./permissions.ts";

/** How a session ended on this connection. */
export type SessionEnd =
  /** By its client. */
  | { kind: "left" }
  /** It resumed on another connection, as the node asked it to. */
  | { kind: "moved" }
  /** By the server; `taken`: the client has taken everything, the reason included. */
  | { kind: "ended"; code: DisconnectCode; taken: boolean }
  | { kind: "broke" };

/** A session that ends has this long to send what waits. */
const closeFlushMs = 2_000;

type SessionConnection = Pick<Connection, "address" | "close" | "terminate">;

/** One client's session on one connection: its user, its subscriptions, what it is sent, and how it ends. */
export class Session {
  readonly outbox: Outbox;
  readonly reads: ReadTurns;
  readonly requests = new OpenRequests();
  readonly subscriptions = new Map<string, Subscription>();
  /** Channels in which it is present. */
  readonly memberships = new Map<string, Omit<Membership, "holder">>();
  /** What others see of the user. */
  readonly info: unknown;
  /** Its client resumes elsewhere when it is asked to. */
  readonly moves: boolean;
  /** By `performance.now()`. */
  readonly openedAt = performance.now();
  /** Rates of its events, and of its requests to the gateway. From the first message on. */
  flows: { events: ClientFlow; requests: ClientFlow } | undefined;
  readonly #connection: SessionConnection;
  readonly succession: Succession;
  readonly permissions: Permissions;
  /** A new token changes neither user nor tenant. */
  readonly identityKey: IdentityKey;
  /** Why the server ended it; undefined before that, or where the client left. */
  #endedBy: DisconnectCode | undefined;
  #mayReturn = true;
  #left = false;
  #whenEnded: ((end: SessionEnd) => void) | undefined;
  #closing = false;
  #giveUp: NodeJS.Timeout | undefined;
  #welcomed = false;
  #resumed = false;
  #disposed = false;
  #identity: Identity | undefined;

  constructor(options: {
    sessionId: string;
    credentials: Credentials;
    /** Of the token, where another connection presented it first. Unix ms. */
    issuedAt?: number | undefined;
    grantedChannels: readonly string[];
    info: unknown;
    moves: boolean;
    /** Unix ms by the store's clock. */
    storeNow: () => number;
    outbox: Outbox;
    connection: SessionConnection;
  }) {
    this.succession = new Succession({
      sessionId: options.sessionId,
      onMoved: () => this.outbox.send(eventFrame("sync:moved", {})),
      onReplaced: (stayed) => {
        // The newer connection may be closed by then, and this one the client's last.
        if (stayed) this.end("draining", "this session moved to another connection", { reconnect: true });
        else this.end("replaced", "this session continues on another connection", { reconnect: false });
      },
    });
    this.moves = options.moves;
    this.info = options.info;
    this.outbox = options.outbox;
    this.reads = new ReadTurns(options.outbox);
    this.#connection = options.connection;
    this.identityKey = identityKey(options.credentials);
    this.permissions = new Permissions({
      credentials: options.credentials,
      issuedAt: options.issuedAt,
      grantedChannels: options.grantedChannels,
      storeNow: options.storeNow,
      onExpired: () => this.end("token_expired", "the token has expired", { reconnect: true }),
    });
  }

  get id(): string {
    return this.held.sessionId;
  }

  /** Claim 0: not in the session store yet. */
  get held(): SessionClaim {
    return this.succession.held;
  }

  /** As the session store knows it. */
  get stored(): SessionClaim & UserIdentity {
    const { user, tenant } = this.credentials;
    return { ...this.held, user, tenant };
  }

  /** @param options.resumed it existed before. `tookOver`: another connection had it, and is notified. */
  applyClaim(held: SessionClaim, { resumed, tookOver }: { resumed: boolean; tookOver: boolean }): void {
    this.#resumed = resumed;
    this.succession.applyClaim(held, { tookOver });
  }

  /** It resumed on another connection, as it was asked to, and its client has not closed this one yet. */
  get moved(): boolean {
    return this.succession.moved;
  }

  /** Asks the client to reconnect at the time that `drain` gives. Replaces an earlier request. */
  askToMove(drain: Drain): void {
    if (this.#endedBy || this.#disposed) return;
    this.succession.mayStayFor(drain.deadlineInMs);
    this.outbox.send(eventFrame("sync:drain", drain));
  }

  /** Takes {@link askToMove} back. A client whose move has begun completes it. */
  askToStay(): void {
    if (this.#endedBy || this.#disposed) return;
    this.outbox.send(eventFrame("sync:undrain", {}));
  }

  get resumed(): boolean {
    return this.#resumed;
  }

  get credentials(): Credentials {
    return this.permissions.credentials;
  }

  get resumable(): Resumable {
    const { held, credentials, info } = this;
    const { issuedAt, grantedChannels } = this.permissions;
    return { ...held, credentials, issuedAt, grantedChannels, info };
  }

  get user(): string {
    return this.credentials.user;
  }

  /** Unix ms. */
  get expiresAt(): number {
    return this.credentials.expiresAt;
  }

  /** Of the client. */
  get address(): string {
    return this.#connection.address;
  }

  /** The same object until the session gets an id or a token: callers may keep by it what they derive from it. */
  get identity(): Identity {
    const { user, tenant, claims } = this.credentials;
    const { id: sessionId } = this;
    if (this.#identity?.claims !== claims || this.#identity.sessionId !== sessionId) {
      this.#identity = { user, sessionId, ...(tenant !== undefined && { tenant }), claims };
    }
    return this.#identity;
  }

  get endedBy(): DisconnectCode | undefined {
    return this.#endedBy;
  }

  /** Its client is expected to resume it soon, on any node. */
  get mayReturn(): boolean {
    return this.#mayReturn || this.moved;
  }

  /** For the session store. @param broke the reason where neither the client nor the server ended it */
  ending(broke: string): SessionEnding {
    // Without a welcome a client has no token to resume with, but the one that it presented.
    const mayReturn = this.mayReturn && (this.#welcomed || this.#resumed);
    return { mayReturn, reason: this.#endedBy ?? (this.#left ? "client" : broke) };
  }

  /** The client ends the session. */
  leave(): void {
    this.#mayReturn = false;
    this.#left = true;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Its client has the welcome. */
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
    if (!this.#disposed) this.permissions.renew(credentials);
  }

  /** Sends the client the reason, nothing after it, then closes. Later calls do nothing. */
  end(code: DisconnectCode, reason: string, options: { reconnect: boolean; retryAfterMs?: number }): void {
    if (this.#endedBy || this.#disposed) return;
    this.#endedBy = code;
    const { reconnect, retryAfterMs } = options;
    this.#mayReturn = reconnect || code === "replaced";
    const notice: Disconnect = { code, reason, reconnect, ...(retryAfterMs !== undefined && { retryAfterMs }) };
    this.#giveUp = setTimeout(() => this.#connection.terminate(), closeFlushMs);
    this.outbox.finish(eventFrame("sync:disconnect", notice), () => {
      clearTimeout(this.#giveUp);
      this.#closing = true;
      this.#connection.close(!reconnect, (taken) => this.#reportEnd({ kind: "ended", code, taken }));
    });
  }

  /** Calls back once, as soon as it is known how the session ended. One caller. */
  whenEnded(callback: (end: SessionEnd) => void): void {
    this.#whenEnded = callback;
  }

  /** Resets the connection of a client that breaks the bounds of the protocol: the node reads nothing more of it. */
  cut(): void {
    this.#connection.terminate();
  }

  /** Resets the connection of a client that does not read. */
  terminate(code: DisconnectCode): void {
    this.#endedBy ??= code;
    this.#connection.terminate();
  }

  /** The connection has closed, or was never accepted. */
  dispose(): void {
    this.#disposed = true;
    this.permissions.end();
    clearTimeout(this.#giveUp);
    const { moved } = this;
    this.succession.end();
    this.outbox.close();
    for (const subscription of this.subscriptions.values()) subscription.end();
    // Closed in order: the peer's answer tells how it ended.
    if (this.#closing) return;
    if (this.#endedBy) this.#reportEnd({ kind: "ended", code: this.#endedBy, taken: false });
    else this.#reportEnd({ kind: moved ? "moved" : this.#left ? "left" : "broke" });
  }

  #reportEnd(end: SessionEnd): void {
    const callback = this.#whenEnded;
    this.#whenEnded = undefined;
    callback?.(end);
  }
}
