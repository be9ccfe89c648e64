import { isApplicationEvent, isChannel } from "../../shared/protocol/grammar.ts";
import { protocolVersion } from "../../shared/protocol/limits.ts";
import type {
  Ack,
  CallAck,
  Disconnect,
  ReconnectPolicy,
  RefreshAck,
  Resync,
  Revoked,
  Welcome,
  WireError,
} from "../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "./channel.ts";
import { Connection, type Ending } from "./connection.ts";
import { type ErrorCode, TidegateError } from "./errors.ts";
import { EventListeners, Listeners } from "./listeners.ts";
import { ChannelSubscription } from "./subscription.ts";
import { type Random, refreshDelayMs, RetrySchedule, type Setback } from "./timing.ts";

const tokenDeadlineMs = 15_000;
/** The longest `timeoutMs` of the contract. */
const maxCallMs = 600_000;
/** What an answer that the gateway gives just in time may still need on its way. */
const answerTravelMs = 1_000;

export interface ClientOptions {
  /** The gateway's origin, e.g. `https://sync.example.com`. */
  url: string;
  /**
   * The JWT, or a function that gives one. The function is asked before each try to connect and before the token
   * expires; it has 15 s, and where it fails it is asked again. A text cannot be renewed: when it has expired the
   * client closes.
   */
  token: string | (() => string | Promise<string>);
  /** Source of all jitter, in [0, 1); for tests. */
  random?: Random;
}

export type ClientState =
  | { status: "connecting" }
  | { status: "connected"; sessionId: string; user: string; node: string }
  /** The next try begins `retryInMs` after this state began. */
  | { status: "waiting"; retryInMs: number; reason: TidegateError }
  /** For good: the gateway refused or dismissed this client, or `close()` was called (code `closed`). */
  | { status: "closed"; reason: TidegateError };

export interface CallOptions {
  /** Makes a repeat recognisable to the service: give every try of one action the same `id`, at most 200 characters. */
  id?: string;
  /** Shortens the time that the service has, in milliseconds. */
  timeoutMs?: number;
}

/** One user's stay at a gateway. It connects and reconnects by itself until it is closed. */
export class Client {
  readonly #options: ClientOptions;
  readonly #random: Random;
  readonly #schedule: RetrySchedule;
  readonly #channels = new Map<string, ChannelSubscription>();
  readonly #stateListeners = new Listeners<[ClientState]>();
  readonly #messageListeners = new EventListeners<[data: unknown, meta: { user: true }]>();
  #state: ClientState = { status: "connecting" };
  /** The connection being tried, or in use: then `#session` is set. */
  #connection: Connection | null = null;
  #session: { connection: Connection; policy: ReconnectPolicy; maxPayloadBytes: number; sinceMs: number } | null = null;
  #resumeToken: string | null = null;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;

  private constructor(options: ClientOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#schedule = new RetrySchedule(this.#random);
  }

  static connect(options: ClientOptions): Client {
    const client = new Client(options);
    void client.#connect();
    return client;
  }

  get state(): ClientState {
    return this.#state;
  }

  /** Called with each new state. Returns what takes the listener away again. */
  onState(listener: (state: ClientState) => void): () => void {
    return this.#stateListeners.add(listener);
  }

  /** Called for messages to this user, which belong to no channel. They are sent at most once. */
  onMessage(event: string, listener: (data: unknown, meta: { user: true }) => void): () => void {
    return this.#messageListeners.add(event, listener);
  }

  /**
   * The same object for the same name. Nothing is subscribed yet.
   *
   * @throws {TidegateError} `invalid_request`, where `name` is no channel's name
   */
  channel<Events extends object = Record<string, unknown>>(name: string): Channel<Events> {
    let channel = this.#channels.get(name);
    if (!channel) {
      if (!isChannel(name)) throw failure("invalid_request", `not a channel's name: ${name}`);
      channel = new ChannelSubscription(name, this.#random);
      this.#channels.set(name, channel);
      if (this.#state.status === "closed") channel.close(this.#state.reason);
      else if (this.#session) channel.connected(this.#session.connection);
    }
    return channel as Channel as Channel<Events>;
  }

  /**
   * Sends an event and resolves with the service's answer. It is sent now or not at all, and never a second time.
   *
   * @throws {TidegateError} `not_connected`: not sent; `upstream_timeout`: sent, outcome unknown, also where the
   *   connection was lost meanwhile; otherwise what the gateway or the service refused with
   */
  async call<T = unknown>(event: string, data: unknown = null, options: CallOptions = {}): Promise<T> {
    if (this.#state.status === "closed") throw this.#state.reason;
    if (!this.#session) throw failure("not_connected", "there is no connection", true);
    if (!isApplicationEvent(event)) throw failure("invalid_request", `not an event's name: ${event}`);
    // Far past its limit the gateway closes the connection: it would not come to answer.
    const { connection, maxPayloadBytes } = this.#session;
    const bytes = new TextEncoder().encode(JSON.stringify(data)).length;
    if (bytes > maxPayloadBytes) throw failure("payload_too_large", `${bytes} bytes, of ${maxPayloadBytes} at most`);
    const deadlineMs = (options.timeoutMs ?? maxCallMs) + answerTravelMs;
    const args = Object.keys(options).length > 0 ? [data, options] : [data];
    return new Promise((resolve, reject) => {
      const answered = (ack: Ack<CallAck>): void =>
        ack.ok ? resolve(ack.data as T) : reject(new TidegateError(ack.error));
      connection.request(event, args, answered, deadlineMs);
    });
  }

  /** Leaves for good. Calls in flight fail with `upstream_timeout`. Idempotent. */
  close(): void {
    this.#close(failure("closed", "this client was closed"));
  }

  async #connect(): Promise<void> {
    this.#become({ status: "connecting" });
    let token: string;
    try {
      token = await this.#askForToken();
    } catch (cause) {
      return this.#retry(failure("token_unavailable", "the token callback failed", true, cause));
    }
    if (this.#state.status === "closed") return;
    const auth = { token, protocol: protocolVersion, ...(this.#resumeToken !== null && { resume: this.#resumeToken }) };
    const connection = new Connection(this.#options.url, auth, {
      welcomed: (welcome) => this.#welcomed(connection, welcome),
      received: (event, data, meta) => this.#received(event, data, meta),
      ended: (ending) => this.#ended(ending),
    });
    this.#connection = connection;
    connection.open();
  }

  #welcomed(connection: Connection, welcome: Welcome): void {
    const { sessionId, user, node, resumeToken, expiresAt, maxPayloadBytes, reconnect: policy } = welcome;
    this.#session = { connection, policy, maxPayloadBytes, sinceMs: performance.now() };
    this.#resumeToken = resumeToken;
    this.#scheduleRefresh(connection, expiresAt);
    for (const channel of this.#channels.values()) channel.connected(connection);
    this.#become({ status: "connected", sessionId, user, node });
  }

  #received(event: string, data: unknown, meta: unknown): void {
    if (event === "sync:resync") return this.#channels.get((data as Resync).channel)?.resync(data as Resync);
    if (event === "sync:revoked") return this.#channels.get((data as Revoked).channel)?.revoked(data as Revoked);
    if (!isApplicationEvent(event) || typeof meta !== "object" || meta === null) return;
    if ("channel" in meta) this.#channels.get(String(meta.channel))?.deliver(event, data, meta as PublicationMeta);
    else if ("user" in meta) this.#messageListeners.call(event, data, { user: true });
  }

  #ended(ending: Ending): void {
    const policy = this.#leaveSession();
    if (ending.kind === "lost") return this.#retry(failure("connection_lost", ending.message, true), { policy });
    const word: WireError = ending.kind === "refused" ? ending.refusal : wordOf(ending.disconnect);
    const tokenExpired = word.code === "token_expired";
    // A text as token stays expired: what refused it once will refuse it again.
    const hopeless = ending.kind === "refused" && tokenExpired && typeof this.#options.token === "string";
    if (hopeless || !word.retryable) return this.#close(new TidegateError({ ...word, retryable: false }));
    this.#retry(new TidegateError(word), { policy, tokenExpired, retryAfterMs: word.retryAfterMs });
  }

  #retry(reason: TidegateError, setback: Setback = {}): void {
    if (this.#state.status === "closed") return;
    const retryInMs = this.#schedule.nextDelayMs(setback);
    this.#retryTimer = setTimeout(() => void this.#connect(), retryInMs);
    this.#become({ status: "waiting", retryInMs, reason });
  }

  /** Nothing is connected any more. Returns the reconnect window of the session that ended, if there was one. */
  #leaveSession(): ReconnectPolicy | undefined {
    const session = this.#session;
    this.#connection = null;
    this.#session = null;
    clearTimeout(this.#refreshTimer);
    for (const channel of this.#channels.values()) channel.disconnected();
    if (session) this.#schedule.connectionEnded(performance.now() - session.sinceMs);
    return session?.policy;
  }

  #close(reason: TidegateError): void {
    if (this.#state.status === "closed") return;
    const connection = this.#connection;
    this.#leaveSession();
    clearTimeout(this.#retryTimer);
    this.#become({ status: "closed", reason });
    for (const channel of this.#channels.values()) channel.close(reason);
    connection?.close();
  }

  #become(state: ClientState): void {
    this.#state = state;
    this.#stateListeners.call(state);
  }

  #scheduleRefresh(connection: Connection, expiresAt: number, notBeforeMs = 0): void {
    if (typeof this.#options.token === "string") return;
    const delayMs = Math.max(notBeforeMs, refreshDelayMs(expiresAt - Date.now(), this.#random));
    this.#refreshTimer = setTimeout(() => void this.#refresh(connection, expiresAt), delayMs);
  }

  /** Where it fails it is tried again, ever sooner; in the end the gateway says `token_expired`. */
  async #refresh(connection: Connection, expiresAt: number): Promise<void> {
    const token = await this.#askForToken().catch(() => null);
    if (this.#connection !== connection) return;
    if (token === null) return this.#scheduleRefresh(connection, expiresAt);
    connection.request<RefreshAck>("sync:refresh", [{ token }], (ack) => {
      if (this.#connection !== connection) return;
      if (!ack.ok) return this.#scheduleRefresh(connection, expiresAt, ack.error.retryAfterMs);
      this.#resumeToken = ack.resumeToken;
      this.#scheduleRefresh(connection, ack.expiresAt);
    });
  }

  async #askForToken(): Promise<string> {
    const { token } = this.#options;
    if (typeof token === "string") return token;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no token within ${tokenDeadlineMs} ms`)), tokenDeadlineMs);
    });
    try {
      return await Promise.race([token(), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function wordOf({ code, reason, reconnect, retryAfterMs }: Disconnect): WireError {
  return { code, message: reason, retryable: reconnect, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

function failure(code: ErrorCode, message: string, retryable = false, cause?: unknown): TidegateError {
  return new TidegateError({ code, message, retryable }, { cause });
}
