import type { Bootstrap } from "../../shared/protocol/wire.ts";
import { abortedBy, onAbort } from "./api/abort.ts";
import type { CallOptions, OfflineBounds } from "./api/call-options.ts";
import { Calls } from "./calls/calls.ts";
import type { Channel } from "./api/channel.ts";
import type { ClientState } from "./api/client-state.ts";
import { Channels } from "./channels/channels.ts";
import { Connection, type Connector } from "./connection/connection.ts";
import type { TokenSource } from "./connection/credentials.ts";
import { Deduplicator } from "./channels/deduplicator.ts";
import { failure } from "./api/errors.ts";
import { GatewayAddress } from "./connection/gateway-address.ts";
import { EventListeners, Listeners } from "./channels/listeners.ts";
import { Session } from "./connection/session.ts";
import type { Random } from "./calls/backoff.ts";

/** Set exactly one of `url` and `bootstrap`. */
export interface ClientOptions {
  /** The gateway's origin, e.g. `https://sync.example.com`, without a path. */
  url?: string;
  /**
   * An endpoint that names the gateway's origin, e.g. `https://sync.example.com/v1/bootstrap`. The client asks it, with
   * its token, before each connect except for a move. When the endpoint is unavailable (10 s without an answer, or no
   * valid one), the client uses the last answer.
   */
  bootstrap?: string;
  /**
   * A JWT, or a function that returns one. The client calls the function before the first connect, before the token
   * expires, and after the gateway refused a token, but not for an ordinary reconnect. The function has 15 s; if it
   * throws, takes longer, or returns anything that cannot be a JWT, such as an error page, the client retries with backoff.
   * The client closes when the gateway refuses two tokens in a row as `unauthenticated`; with a fixed token, when it
   * refuses that or it expires.
   */
  token: TokenSource;
  /**
   * Calls made while not connected wait for the connection; the bounds say how many, `{}` takes the defaults. Without
   * this option they fail with `not_connected`, unless a call sets `CallOptions.offline`. The bounds also cover calls
   * that wait for their turn or to be repeated.
   */
  offline?: OfflineBounds;
  /** Closes the client, as `close()` does: the reason is `aborted`. */
  signal?: AbortSignal;
  /** Source of all jitter, in [0, 1), for tests. `Math.random` by default. */
  random?: Random;
}

/**
 * One user's connection to the gateway. Connects and reconnects by itself until it is closed. After a reconnect it
 * subscribes its channels again and delivers what they missed.
 */
export class Client {
  readonly #address: GatewayAddress;
  readonly #session: Session;
  readonly #channels: Channels;
  readonly #calls: Calls;
  #stopListening: () => void = () => undefined;
  readonly #stateListeners = new Listeners<[ClientState]>();
  readonly #messageListeners = new EventListeners<[data: unknown, meta: { user: true }]>();

  private constructor(options: ClientOptions, connector: Connector) {
    const { token, offline, random = Math.random } = options;
    this.#address = new GatewayAddress(options);
    const deduplicator = new Deduplicator();
    this.#channels = new Channels(random, deduplicator, () => this.#session.checkHandedOver());
    this.#calls = new Calls({ random, offline });
    this.#session = new Session({
      address: this.#address,
      token,
      random,
      connector,
      deduplicator,
      channels: this.#channels,
      calls: this.#calls,
      onState: (state) => {
        if (state.status === "closed") this.#stopListening();
        this.#stateListeners.call(state);
      },
      onMessage: (event, data) => this.#messageListeners.call(event, data, { user: true }),
    });
  }

  static connect(
    options: ClientOptions,
    connector: Connector = (url, auth, callbacks) => new Connection(url, auth, callbacks),
  ): Client {
    const client = new Client(options, connector);
    const { signal } = options;
    if (signal?.aborted) client.#session.close(abortedBy(signal));
    else {
      client.#stopListening = onAbort(signal, (error) => client.#session.close(error));
      client.#session.start();
    }
    return client;
  }

  get state(): ClientState {
    return this.#session.state;
  }

  /**
   * The last answer of the bootstrap endpoint; `null` before the first one, and without an endpoint. `group` and `config`
   * are for the application: the user's rollout group and its configuration.
   */
  get bootstrap(): Bootstrap | null {
    return this.#address.bootstrap;
  }

  /** Calls the listener with each new state. Returns a function that removes it. */
  onState(listener: (state: ClientState) => void): () => void {
    return this.#stateListeners.add(listener);
  }

  /**
   * Calls the listener for messages to this user, which belong to no channel. Delivered at most once: a message sent
   * while the client is not connected is lost. Returns a function that removes the listener.
   */
  onMessage(event: string, listener: (data: unknown, meta: { user: true }) => void): () => void {
    return this.#messageListeners.add(event, listener);
  }

  /**
   * Returns an object for the channel of this name, with listeners and a subscription of its own. Does not subscribe.
   *
   * @throws {TidegateError} `invalid_request`, if `name` is not a valid channel name
   */
  channel<Events extends object = Record<string, unknown>>(name: string): Channel<Events> {
    return this.#channels.open(name) as Channel as Channel<Events>;
  }

  /**
   * Calls the listener when the server subscribes this client to a channel that the application had not requested. From
   * then on the channel behaves as after `subscribe()`, also across reconnects, until `channel.unsubscribe()`. Listeners that
   * are added to it inside the callback receive everything after `channel.position`. Returns a function that removes the
   * listener.
   */
  onSubscribed(listener: (channel: Channel) => void): () => void {
    return this.#channels.onSubscribed(listener);
  }

  /**
   * Sends an event to the service it is routed to, and resolves with the service's answer; on a route with `mode: enqueue`
   * with {@link QueuedAck} once the event is stored, or dropped (`queued: false`). By default the call is sent on
   * the connection that is there, or not at all, and never twice; `options` allow it to wait for a connection (`offline`) or
   * to be repeated (`repeat`). Calls beyond 100 at once, then 50 a second, wait for their turn. `data` is any JSON value,
   * 64 KiB as UTF-8 by default; binary data is refused.
   *
   * @throws {TidegateError} not sent: `not_connected`, `queue_full`, `payload_too_large`, `invalid_request`. Sent, outcome
   *   unknown: `upstream_timeout`, also when the connection was lost before the answer. Otherwise the refusal of the
   *   gateway (e.g. `no_route`, `rate_limited`) or of the service, with the service's own `code`
   */
  async call<T = unknown>(event: string, data: unknown = null, options: CallOptions = {}): Promise<T> {
    return this.#calls.call(event, data, options) as Promise<T>;
  }

  /**
   * Connects now if the client waits for its next attempt, e.g. for a button "Reconnect": at most once a second, and not
   * before a time that the gateway named (`state.reason.retryAfterMs`). In a browser the client does so by itself when the
   * network is back, and when the page is shown.
   */
  retry(): void {
    this.#session.retry();
  }

  /**
   * Ends the session for good. Open calls fail with `upstream_timeout`, waiting ones and unanswered `subscribe()` with
   * `closed`. Idempotent.
   */
  close(): void {
    this.#session.close(failure("closed", "this client was closed"));
  }
}
