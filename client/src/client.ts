import { isApplicationEvent } from "../../shared/protocol/grammar.ts";
import type { Disconnect, ReconnectPolicy, Welcome, WireError } from "../../shared/protocol/wire.ts";
import type { CallOptions, OfflineBounds } from "./call-options.ts";
import { Calls } from "./calls.ts";
import type { Channel, PublicationMeta } from "./channel.ts";
import { Channels } from "./channels.ts";
import { Connection, type ConnectionCallbacks, type Ending, type GatewayConnection } from "./connection.ts";
import { Credentials, type Prospect, type TokenSource } from "./credentials.ts";
import { failure, TidegateError } from "./errors.ts";
import { EventListeners, Listeners } from "./listeners.ts";
import { Refresh } from "./refresh.ts";
import { type Random, RetrySchedule, type Setback } from "./timing.ts";

export interface ClientOptions {
  /** The gateway's origin, e.g. `https://sync.example.com`. */
  url: string;
  /**
   * The JWT, or a function that gives one. The function is asked before the first connection, before the token expires,
   * and where the gateway does not take what it gave before; it has 15 s, and where it fails it is asked again. A text
   * cannot be renewed: when it has expired the client closes.
   */
  token: TokenSource;
  /**
   * Lets calls that are made while not connected wait for the connection, at most this many; `{}` for the defaults.
   * Without it they fail with `not_connected`, but for those that ask for it (`CallOptions.offline`). Calls that wait
   * for a repeat count too.
   */
  offline?: OfflineBounds;
  /** Source of all jitter, in [0, 1); for tests. */
  random?: Random;
}

export type ClientState =
  | { status: "connecting" }
  /** `resumed`: the session of before goes on, as far as the gateway knows; channels recover either way. */
  | { status: "connected"; sessionId: string; user: string; node: string; resumed: boolean }
  /** The next try begins `retryInMs` after this state began. */
  | { status: "waiting"; retryInMs: number; reason: TidegateError }
  /** For good: the gateway refused or dismissed this client, or `close()` was called (code `closed`). */
  | { status: "closed"; reason: TidegateError };

/** How a connection is made; tests bring their own. */
export type Connector = (
  url: string,
  auth: Record<string, unknown>,
  callbacks: ConnectionCallbacks,
) => GatewayConnection;

/** One user's stay at a gateway. It connects and reconnects by itself until it is closed. */
export class Client {
  readonly #url: string;
  readonly #connector: Connector;
  readonly #schedule: RetrySchedule;
  readonly #credentials: Credentials;
  readonly #refresh: Refresh;
  readonly #channels: Channels;
  readonly #calls: Calls;
  readonly #stateListeners = new Listeners<[ClientState]>();
  readonly #messageListeners = new EventListeners<[data: unknown, meta: { user: true }]>();
  #state: ClientState = { status: "connecting" };
  /** The connection being tried, or in use: then `#session` is set. */
  #connection: GatewayConnection | null = null;
  #session: { policy: ReconnectPolicy; sinceMs: number } | null = null;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  private constructor({ url, token, offline, random = Math.random }: ClientOptions, connector: Connector) {
    this.#url = url;
    this.#connector = connector;
    this.#schedule = new RetrySchedule(random);
    this.#credentials = new Credentials(token);
    this.#refresh = new Refresh(this.#credentials, random, (channel, grant) =>
      this.#channels.grantRenewed(channel, grant),
    );
    this.#channels = new Channels(random);
    this.#calls = new Calls({ random, offline });
  }

  static connect(
    options: ClientOptions,
    connector: Connector = (url, auth, callbacks) => new Connection(url, auth, callbacks),
  ): Client {
    const client = new Client(options, connector);
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
    return this.#channels.get(name) as Channel as Channel<Events>;
  }

  /**
   * The server has subscribed this client to a channel that it did not ask for. The channel is as if `subscribe()` had
   * been called, reconnects included; listeners that are added now miss nothing after `channel.position`.
   */
  onSubscribed(listener: (channel: Channel) => void): () => void {
    return this.#channels.onSubscribed(listener);
  }

  /**
   * Sends an event and resolves with the service's answer. It is sent now or not at all, and never a second time,
   * unless `options` say that it may wait (`offline`) or be repeated (`repeat`).
   *
   * @throws {TidegateError} `not_connected`, `queue_full`: not sent; `upstream_timeout`: sent, outcome unknown, also
   *   where the connection was lost meanwhile; otherwise what the gateway or the service refused with
   */
  async call<T = unknown>(event: string, data: unknown = null, options: CallOptions = {}): Promise<T> {
    return this.#calls.call(event, data, options) as Promise<T>;
  }

  /** Leaves for good. Calls in flight fail with `upstream_timeout`. Idempotent. */
  close(): void {
    this.#close(failure("closed", "this client was closed"));
  }

  async #connect(): Promise<void> {
    this.#become({ status: "connecting" });
    let auth: Record<string, unknown>;
    try {
      auth = await this.#credentials.present();
    } catch (cause) {
      return this.#retry(failure("token_unavailable", "the token callback failed", true, cause));
    }
    if (this.#state.status === "closed") return;
    const connection: GatewayConnection = this.#connector(this.#url, auth, {
      welcomed: (welcome) => this.#welcomed(connection, welcome),
      received: (event, data, meta) => this.#received(event, data, meta),
      ended: (ending) => this.#ended(ending),
    });
    this.#connection = connection;
    connection.open();
  }

  #welcomed(connection: GatewayConnection, welcome: Welcome): void {
    const { sessionId, user, node, resumed, resumeToken, expiresAt, maxPayloadBytes, reconnect: policy } = welcome;
    this.#session = { policy, sinceMs: performance.now() };
    this.#credentials.welcomed(resumeToken);
    this.#refresh.start(connection, expiresAt);
    this.#channels.connected(connection);
    this.#calls.connected(connection, maxPayloadBytes);
    this.#become({ status: "connected", sessionId, user, node, resumed });
  }

  #received(event: string, data: unknown, meta: unknown): void {
    if (!isApplicationEvent(event)) return this.#channels.receive(event, data);
    if (typeof meta !== "object" || meta === null) return;
    if ("channel" in meta) this.#channels.deliver(event, data, meta as PublicationMeta);
    else if ("user" in meta) this.#messageListeners.call(event, data, { user: true });
  }

  #ended(ending: Ending): void {
    const policy = this.#leaveSession();
    if (ending.kind === "lost") return this.#retry(failure("connection_lost", ending.message, true), { policy });
    const word: WireError = ending.kind === "refused" ? ending.refusal : wordOf(ending.disconnect);
    const prospect = this.#prospect(ending.kind, word);
    if (prospect === "none") return this.#close(new TidegateError({ ...word, retryable: false }));
    const { retryAfterMs } = word;
    this.#retry(new TidegateError(word), { policy, credentialsRefused: prospect === "others", retryAfterMs });
  }

  /** What is left to try after a refusal, or a dismissal. */
  #prospect(kind: "refused" | "dismissed", { code, retryable }: WireError): Prospect {
    const prospect = kind === "refused" ? this.#credentials.refused(code) : this.#credentials.dismissed(code);
    return prospect === "same" && !retryable ? "none" : prospect;
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
    this.#refresh.stop();
    this.#channels.disconnected();
    this.#calls.disconnected();
    if (session) this.#schedule.connectionEnded(performance.now() - session.sinceMs);
    return session?.policy;
  }

  #close(reason: TidegateError): void {
    if (this.#state.status === "closed") return;
    const connection = this.#connection;
    this.#leaveSession();
    clearTimeout(this.#retryTimer);
    this.#become({ status: "closed", reason });
    this.#channels.close(reason);
    this.#calls.close(reason);
    connection?.close();
  }

  #become(state: ClientState): void {
    this.#state = state;
    this.#stateListeners.call(state);
  }
}

function wordOf({ code, reason, reconnect, retryAfterMs }: Disconnect): WireError {
  return { code, message: reason, retryable: reconnect, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}
