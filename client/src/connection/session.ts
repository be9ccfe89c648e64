import { isApplicationEvent } from "../../../shared/protocol/grammar.ts";
import type { Policy, Welcome } from "../../../shared/protocol/wire.ts";
import type { Random } from "../calls/backoff.ts";
import type { Calls } from "../calls/calls.ts";
import type { PublicationMeta } from "../api/channel.ts";
import type { Channels } from "../channels/channels.ts";
import type { ClientState } from "../api/client-state.ts";
import { ConnectionAttempt } from "./attempt.ts";
import type { Connector } from "./connection.ts";
import { type ConnectionEnd, errorOf } from "./connection-end.ts";
import { Credentials, type HandshakeAuth, type TokenSource } from "./credentials.ts";
import type { Deduplicator } from "../channels/deduplicator.ts";
import { readDrain } from "./drain.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import type { GatewayAddress } from "./gateway-address.ts";
import { MoveSchedule } from "./move-schedule.ts";
import { RetryWait } from "./retry-wait.ts";
import { type RetryHints, RetrySchedule } from "./timing.ts";
import { TokenRefresh } from "./token-refresh.ts";

interface SessionOptions {
  address: GatewayAddress;
  token: TokenSource;
  random: Random;
  connector: Connector;
  deduplicator: Deduplicator;
  channels: Channels;
  calls: Calls;
  onState(state: ClientState): void;
  onMessage(event: string, data: unknown): void;
}

/** Keeps the client connected: one connection after another, two during a move. */
export class Session {
  readonly #options: SessionOptions;
  readonly #credentials: Credentials;
  readonly #schedule: RetrySchedule;
  readonly #move: MoveSchedule;
  readonly #wait: RetryWait;
  #state: ClientState = { status: "connecting" };
  #current: ConnectionAttempt | null = null;
  /** Not welcomed yet; in a move also welcomed, until the channels are handed over to it. */
  #next: ConnectionAttempt | null = null;
  /** Still open for the answers to their requests, and for messages to the user. */
  readonly #closing = new Set<ConnectionAttempt>();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#credentials = new Credentials(options.token);
    this.#schedule = new RetrySchedule(options.random);
    this.#move = new MoveSchedule({
      open: (url) => void this.#connect(url ?? options.address.lastUrl),
      complete: () => this.#completeMove(),
    });
    this.#wait = new RetryWait({
      random: options.random,
      isLoopback: () => options.address.isLoopback,
      connect: () => void this.#connect(),
      shortened: (retryInMs) => {
        if (this.#state.status === "waiting") this.#setState({ ...this.#state, retryInMs });
      },
      online: () => this.#schedule.networkReturned(),
    });
  }

  get state(): ClientState {
    return this.#state;
  }

  start(): void {
    this.#wait.start();
  }

  retry(): void {
    this.#wait.retry();
  }

  /** Completes a move once no channel needs the earlier connection. */
  checkHandedOver(): void {
    if (this.#current && this.#next?.welcome && this.#options.channels.handedOver) this.#completeMove();
  }

  /** Makes the next connection the current one, and closes the other when it is idle. */
  #completeMove(): void {
    const earlier = this.#current;
    if (!earlier || !this.#next?.welcome) return;
    this.#move.stop();
    this.#closing.add(earlier);
    earlier.closeWhenIdle();
    this.#options.channels.disconnected(earlier.connection);
    this.#use(this.#next);
  }

  /** Idempotent, final. */
  close(reason: TidegateError): void {
    if (this.#state.status === "closed") return;
    const attempts = [this.#current, this.#next, ...this.#closing];
    this.#current = this.#next = null;
    this.#closing.clear();
    this.#move.stop();
    this.#wait.stop();
    this.#setState({ status: "closed", reason });
    this.#options.channels.close(reason);
    this.#options.calls.close(reason);
    this.#options.address.close();
    this.#credentials.close();
    for (const attempt of attempts) attempt?.close();
  }

  /** @param moveTo skips the bootstrap endpoint */
  async #connect(moveTo?: string): Promise<void> {
    const { address, random, channels, connector, deduplicator } = this.#options;
    const refresh = new TokenRefresh(this.#credentials, random, (name, grant) => channels.grantRenewed(name, grant));
    const attempt = (this.#next = new ConnectionAttempt(refresh));
    if (!this.#current) this.#setState({ status: "connecting" });
    // A listener may close the client, here and while a token or an address is fetched.
    const isOver = (): boolean => this.#next !== attempt;
    if (isOver()) return;
    let auth: HandshakeAuth;
    let url: string;
    try {
      auth = await this.#credentials.forHandshake();
      if (isOver()) return;
      url = moveTo ?? (await address.resolve(auth.token));
    } catch (error) {
      return this.#ended(attempt, { kind: "refused", refusal: error as TidegateError });
    }
    if (isOver()) return;
    if (!moveTo) attempt.policy = address.bootstrap?.reconnect;
    if (this.#current) deduplicator.start();
    attempt.open(
      connector(url, auth, {
        welcomed: (welcome) => this.#welcomed(attempt, welcome),
        received: (event, data, meta) => this.#received(attempt, event, data, meta),
        ended: (end) => this.#ended(attempt, end),
      }),
    );
  }

  #welcomed(attempt: ConnectionAttempt, welcome: Welcome): void {
    const { channels, calls } = this.#options;
    attempt.welcomed(welcome);
    this.#credentials.welcomed(welcome.resumeToken);
    this.#current?.stopRefresh();
    attempt.startRefresh();
    channels.connected(attempt.connection);
    calls.connected(attempt.connection, welcome.maxPayloadBytes);
    if (!this.#current) return this.#use(attempt);
    this.#move.welcomed();
    this.checkHandedOver();
  }

  #use(attempt: ConnectionAttempt): void {
    this.#current = attempt;
    this.#next = null;
    this.#stopDeduplicating();
    if (attempt.drain) this.#move.drain(attempt.drain);
    if (!attempt.welcome) return;
    const { sessionId, user, tenant, node, resumed } = attempt.welcome;
    this.#setState({
      status: "connected",
      sessionId,
      user,
      ...(tenant !== undefined && { tenant }),
      node,
      resumed,
    });
  }

  #received(attempt: ConnectionAttempt, event: string, data: unknown, meta: unknown): void {
    const { channels, onMessage } = this.#options;
    const { connection } = attempt;
    if (event === "sync:drain") return this.#drained(attempt, data);
    if (event === "sync:undrain") return this.#undrained(attempt);
    // In a move both connections bring it.
    if (event === "sync:refresh") return (this.#next?.welcome ? this.#next : this.#current)?.askForToken();
    if (event === "sync:policy") return void (attempt.policy = (data as Policy).reconnect);
    const sentTo = typeof meta === "object" && meta !== null ? meta : {};
    if (!isApplicationEvent(event)) channels.receive(connection, event, data);
    else if ("channel" in sentTo) channels.deliver(connection, event, data, sentTo as PublicationMeta);
    else if ("user" in sentTo && this.#isOfNewestSession(attempt)) onMessage(event, data);
    this.checkHandedOver();
  }

  /** A session gets each message to the user on one of its connections. A move that could not resume began a session of its own. */
  #isOfNewestSession({ welcome }: ConnectionAttempt): boolean {
    const newest = this.#next?.welcome ?? this.#current?.welcome;
    return !newest || welcome?.sessionId === newest.sessionId;
  }

  /** On the current connection a drain is ignored during an attempt; on the next one it waits for this move to end. */
  #drained(attempt: ConnectionAttempt, data: unknown): void {
    const notice = readDrain(data);
    if (!notice || (attempt === this.#current && this.#next)) return;
    attempt.drain = notice;
    if (attempt !== this.#current) return;
    if (!this.#move.started) this.#schedule.connectionEnded(attempt.connectedMs);
    this.#move.drain(notice);
  }

  /** A move that has begun is completed. */
  #undrained(attempt: ConnectionAttempt): void {
    if (attempt === this.#current && (this.#next || this.#move.started)) return;
    attempt.drain = null;
    if (attempt === this.#current) this.#move.stop();
  }

  #ended(attempt: ConnectionAttempt, end: ConnectionEnd): void {
    attempt.stopRefresh();
    if (!this.#closing.delete(attempt) && (attempt === this.#current || attempt === this.#next)) {
      this.#lost(attempt, end);
    }
    this.#stopDeduplicating();
  }

  #stopDeduplicating(): void {
    if (!this.#next && this.#closing.size === 0) this.#options.deduplicator.stop();
  }

  #lost(attempt: ConnectionAttempt, end: ConnectionEnd): void {
    let error = errorOf(end);
    const isCurrent = attempt === this.#current;
    // Replaced by a connection of this client, perhaps one that has failed since: not final.
    if (isCurrent && error.code === "replaced" && (this.#next || this.#move.started)) {
      error = failure(error.code, error.message, true);
    }
    if (isCurrent && this.#next && error.retryable) return this.#currentLostInMove(attempt);
    // The reconnect window protects gateways that failed.
    const policy = end.kind === "lost" && this.#wait.isLossLocal ? undefined : attempt.policy;
    this.#detach(attempt);
    const retryWith = this.#credentials.retryWith(end, error);
    if (retryWith !== "none") {
      const { retryAfterMs } = error;
      this.#retry(error, { policy, credentialsRefused: retryWith === "fresh", retryAfterMs });
    } else if (this.#current && end.kind === "refused") {
      // The move is refused for good: stay on the current connection until it ends.
      this.#move.stop();
    } else this.close(error.retryable ? failure(error.code, error.message) : error);
  }

  /** The next connection is all there is now. */
  #currentLostInMove(attempt: ConnectionAttempt): void {
    if (this.#next?.welcome) {
      this.#completeMove();
      this.#closing.delete(attempt);
    } else {
      this.#move.stop();
      this.#detach(attempt);
      this.#setState({ status: "connecting" });
    }
  }

  /** Takes channels and calls off a connection, back to the current one if it was the next one. */
  #detach(attempt: ConnectionAttempt): void {
    const { channels, calls } = this.#options;
    if (attempt === this.#next) this.#next = null;
    else this.#current = null;
    if (!attempt.welcome) return;
    this.#schedule.connectionEnded(attempt.connectedMs);
    channels.disconnected(attempt.connection);
    if (!this.#current?.welcome) return calls.disconnected();
    this.#current.startRefresh();
    calls.connected(this.#current.connection, this.#current.welcome.maxPayloadBytes);
  }

  #retry(reason: TidegateError, hints: RetryHints): void {
    const { retryAfterMs } = hints;
    // The reconnect window is for clients without a connection.
    if (this.#current) {
      return this.#move.retry(this.#schedule.nextDelayMs({ ...hints, policy: undefined }), retryAfterMs);
    }
    const moveRetryAfterMs = this.#move.stop();
    const namedMs = moveRetryAfterMs === undefined ? retryAfterMs : Math.max(moveRetryAfterMs, retryAfterMs ?? 0);
    const retryInMs = this.#schedule.nextDelayMs({ ...hints, retryAfterMs: namedMs });
    this.#wait.wait(retryInMs, namedMs !== undefined);
    this.#setState({ status: "waiting", retryInMs, reason });
  }

  #setState(state: ClientState): void {
    this.#state = state;
    this.#options.onState(state);
  }
}
