import type { Bootstrap } from "../../shared/protocol/wire.ts";
import { Address } from "./connection/bootstrap.ts";
import type { CallOptions, OfflineBounds } from "./api/call-options.ts";
import { Calls } from "./calls/calls.ts";
import type { Channel } from "./api/channel.ts";
import { Channels } from "./channels/channels.ts";
import { Connection } from "./connection/connection.ts";
import type { TokenSource } from "./connection/credentials.ts";
import { Doubles } from "./channels/doubles.ts";
import { failure, type TidegateError } from "./api/errors.ts";
import { EventListeners, Listeners } from "./channels/listeners.ts";
import { type Connector, Session } from "./session.ts";
import type { Random } from "./connection/timing.ts";

export interface ClientOptions {
  /** The gateway's origin, e.g. `https://sync.example.com`. This, or `bootstrap`. */
  url?: string;
  /**
   * Where to ask for the address, e.g. `https://sync.example.com/v1/bootstrap`: before each try to connect, but for a
   * move. While it cannot be asked, the address known from before is used.
   */
  bootstrap?: string;
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
  /**
   * `resumed`: the session of before goes on, as far as the gateway knows; channels recover either way. Told again, with
   * another `node`, when the client has moved there while connected.
   */
  | { status: "connected"; sessionId: string; user: string; tenant?: string; node: string; resumed: boolean }
  /** The next try begins `retryInMs` after this state began. */
  | { status: "waiting"; retryInMs: number; reason: TidegateError }
  /** For good: the gateway refused or dismissed this client, or `close()` was called (code `closed`). */
  | { status: "closed"; reason: TidegateError };

/** One user's stay at a gateway. It connects and reconnects by itself until it is closed. */
export class Client {
  readonly #address: Address;
  readonly #session: Session;
  readonly #channels: Channels;
  readonly #calls: Calls;
  readonly #stateListeners = new Listeners<[ClientState]>();
  readonly #messageListeners = new EventListeners<[data: unknown, meta: { user: true }]>();

  private constructor(options: ClientOptions, connector: Connector) {
    const { token, offline, random = Math.random } = options;
    this.#address = new Address(options);
    const doubles = new Doubles();
    this.#channels = new Channels(random, doubles, () => this.#session.handedOver());
    this.#calls = new Calls({ random, offline });
    this.#session = new Session({
      address: this.#address,
      token,
      random,
      connector,
      doubles,
      channels: this.#channels,
      calls: this.#calls,
      became: (state) => this.#stateListeners.call(state),
      message: (event, data) => this.#messageListeners.call(event, data, { user: true }),
    });
  }

  static connect(
    options: ClientOptions,
    connector: Connector = (url, auth, callbacks) => new Connection(url, auth, callbacks),
  ): Client {
    const client = new Client(options, connector);
    client.#session.start();
    return client;
  }

  get state(): ClientState {
    return this.#session.state;
  }

  /** What the bootstrap endpoint last said: `group` and `config` are for the application. `null` before, and without one. */
  get bootstrap(): Bootstrap | null {
    return this.#address.answer;
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
    this.#session.close(failure("closed", "this client was closed"));
  }
}
