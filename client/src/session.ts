import { isApplicationEvent } from "../../shared/protocol/grammar.ts";
import type { Policy, Welcome } from "../../shared/protocol/wire.ts";
import type { Address } from "./connection/bootstrap.ts";
import type { Calls } from "./calls/calls.ts";
import type { PublicationMeta } from "./api/channel.ts";
import type { Channels } from "./channels/channels.ts";
import type { ClientState } from "./client.ts";
import type { ConnectionCallbacks, Ending, GatewayConnection } from "./connection/connection.ts";
import { type Auth, Credentials, type Prospect, type TokenSource } from "./connection/credentials.ts";
import type { Doubles } from "./channels/doubles.ts";
import { failure, type TidegateError } from "./api/errors.ts";
import { errorOf, type Word, wordOf } from "./connection/ending.ts";
import { Link, readDrain } from "./connection/link.ts";
import { Move } from "./connection/move.ts";
import { Refresh } from "./connection/refresh.ts";
import { type Random, RetrySchedule, type Setback } from "./connection/timing.ts";

/** How a connection is made; tests bring their own. */
export type Connector = (
  url: string,
  auth: Record<string, unknown>,
  callbacks: ConnectionCallbacks,
) => GatewayConnection;

interface SessionOptions {
  address: Address;
  token: TokenSource;
  random: Random;
  connector: Connector;
  doubles: Doubles;
  channels: Channels;
  calls: Calls;
  became(state: ClientState): void;
  message(event: string, data: unknown): void;
}

/** Keeps a session alive at the gateway, over one connection after the other, and over two while it moves. */
export class Session {
  readonly #options: SessionOptions;
  readonly #credentials: Credentials;
  readonly #schedule: RetrySchedule;
  readonly #move: Move;
  #state: ClientState = { status: "connecting" };
  /** The connection in use. */
  #link: Link | null = null;
  /** The one being tried. In a move it is then in use, too, until the channels are handed over. */
  #next: Link | null = null;
  /** Left, but for what is in flight. */
  readonly #left = new Set<Link>();
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#credentials = new Credentials(options.token);
    this.#schedule = new RetrySchedule(options.random);
    this.#move = new Move({
      open: (url) => void this.#try(url ?? options.address.known),
      complete: () => this.#moved(),
    });
  }

  get state(): ClientState {
    return this.#state;
  }

  start(): void {
    void this.#try();
  }

  /** In a move: the channels need the earlier connection no longer. */
  handedOver(): void {
    this.#moved();
  }

  /** For good. */
  close(reason: TidegateError): void {
    if (this.#state.status === "closed") return;
    const links = [this.#link, this.#next, ...this.#left];
    this.#link = this.#next = null;
    this.#left.clear();
    this.#move.stop();
    clearTimeout(this.#retryTimer);
    this.#become({ status: "closed", reason });
    this.#options.channels.close(reason);
    this.#options.calls.close(reason);
    this.#options.address.close();
    for (const link of links) link?.close();
  }

  /** @param elsewhere in a move: nobody is asked for an address. */
  async #try(elsewhere?: string): Promise<void> {
    const { address, random, channels, connector, doubles } = this.#options;
    const refresh = new Refresh(this.#credentials, random, (channel, grant) => channels.grantRenewed(channel, grant));
    const link = (this.#next = new Link(refresh));
    if (!this.#link) this.#become({ status: "connecting" });
    let auth: Auth;
    let url: string;
    try {
      auth = await this.#credentials.present();
      url = elsewhere ?? (await address.find(auth.token));
    } catch (error) {
      return this.#ended(link, { kind: "refused", refusal: error as TidegateError });
    }
    if (this.#next !== link) return;
    if (!elsewhere) link.policy = address.answer?.reconnect;
    if (this.#link) doubles.watch();
    link.open(
      connector(url, auth, {
        welcomed: (welcome) => this.#welcomed(link, welcome),
        received: (event, data, meta) => this.#received(link, event, data, meta),
        ended: (ending) => this.#ended(link, ending),
      }),
    );
  }

  #welcomed(link: Link, welcome: Welcome): void {
    const { channels, calls } = this.#options;
    link.welcomed(welcome);
    this.#credentials.welcomed(welcome.resumeToken);
    this.#link?.rest();
    link.keepFresh();
    channels.connected(link.connection);
    calls.connected(link.connection, welcome.maxPayloadBytes);
    if (!this.#link) return this.#use(link);
    this.#move.welcomed();
    channels.checkHandOver();
  }

  #use(link: Link): void {
    this.#link = link;
    this.#next = null;
    this.#watchDoubles();
    if (link.drain) this.#move.ordered(link.drain);
    if (!link.welcome) return;
    const { sessionId, user, tenant, node, resumed } = link.welcome;
    this.#become({
      status: "connected",
      sessionId,
      user,
      ...(tenant !== undefined && { tenant }),
      node,
      resumed,
    });
  }

  #received(link: Link, event: string, data: unknown, meta: unknown): void {
    const { channels, doubles, message } = this.#options;
    if (event === "sync:drain") return this.#drained(link, data);
    if (event === "sync:policy") return void (link.policy = (data as Policy).reconnect);
    if (!isApplicationEvent(event)) return channels.receive(link.connection, event, data);
    if (typeof meta !== "object" || meta === null) return;
    if ("channel" in meta) channels.deliver(link.connection, event, data, meta as PublicationMeta);
    else if ("user" in meta && doubles.passes(link.connection, event, data)) message(event, data);
  }

  /** Where another connection is under way already, this is no news; told to that one, it is for later. */
  #drained(link: Link, word: unknown): void {
    const order = readDrain(word);
    if (!order || (link === this.#link && this.#next)) return;
    link.drain = order;
    if (link !== this.#link) return;
    if (!this.#move.begun) this.#schedule.connectionEnded(link.lastedMs);
    this.#move.ordered(order);
  }

  /** From the earlier connection to the next one, which is in use already. */
  #moved(): void {
    const earlier = this.#link;
    if (!earlier || !this.#next?.welcome) return;
    this.#move.stop();
    this.#left.add(earlier);
    earlier.leave();
    this.#options.channels.disconnected(earlier.connection);
    this.#use(this.#next);
  }

  #ended(link: Link, ending: Ending): void {
    link.rest();
    if (!this.#left.delete(link) && (link === this.#link || link === this.#next)) this.#lost(link, ending);
    this.#watchDoubles();
  }

  #watchDoubles(): void {
    if (!this.#next && this.#left.size === 0) this.#options.doubles.stop();
  }

  #lost(link: Link, ending: Ending): void {
    const said = wordOf(ending);
    // By a connection of this client, also by one that has come to nothing since.
    const isMove = link === this.#link && said.code === "replaced" && (this.#next !== null || this.#move.begun);
    const word = isMove ? failure(said.code, said.message, true) : said;
    if (link === this.#link && this.#next && word.retryable) return this.#goOn(link);
    const { policy } = link;
    this.#detach(link);
    const prospect = this.#prospect(ending, word);
    if (prospect !== "none") {
      const reason = errorOf(word);
      const { retryAfterMs } = reason;
      this.#retry(reason, { policy, credentialsRefused: prospect === "others", retryAfterMs });
    } else if (this.#link && ending.kind === "refused") {
      // The connection in use may last as long as it is let.
      this.#move.stop();
    } else this.close(word.retryable ? failure(word.code, word.message) : errorOf(word));
  }

  /** A move whose first connection is gone: the second one is all there is. */
  #goOn(link: Link): void {
    if (this.#next?.welcome) {
      this.#moved();
      this.#left.delete(link);
    } else {
      this.#move.stop();
      this.#detach(link);
      this.#become({ status: "connecting" });
    }
  }

  /** Nothing counts on that connection any more. */
  #detach(link: Link): void {
    const { channels, calls } = this.#options;
    if (link === this.#next) this.#next = null;
    else this.#link = null;
    if (!link.welcome) return;
    this.#schedule.connectionEnded(link.lastedMs);
    channels.disconnected(link.connection);
    if (!this.#link?.welcome) return calls.disconnected();
    this.#link.keepFresh();
    calls.connected(this.#link.connection, this.#link.welcome.maxPayloadBytes);
  }

  /** What is left to try after a refusal, or a dismissal. */
  #prospect({ kind }: Ending, { code, retryable }: Word): Prospect {
    if (kind !== "refused" && kind !== "dismissed") return "same";
    const prospect = kind === "refused" ? this.#credentials.refused(code) : this.#credentials.dismissed(code);
    return prospect === "same" && !retryable ? "none" : prospect;
  }

  #retry(reason: TidegateError, setback: Setback = {}): void {
    const { retryAfterMs } = setback;
    // A window is for those who have lost what they had.
    if (this.#link) {
      return this.#move.again(this.#schedule.nextDelayMs({ ...setback, policy: undefined }), retryAfterMs);
    }
    const learntMs = this.#move.stop();
    const retryInMs = this.#schedule.nextDelayMs({
      ...setback,
      retryAfterMs: learntMs === undefined ? retryAfterMs : Math.max(learntMs, retryAfterMs ?? 0),
    });
    this.#retryTimer = setTimeout(() => void this.#try(), retryInMs);
    this.#become({ status: "waiting", retryInMs, reason });
  }

  #become(state: ClientState): void {
    this.#state = state;
    this.#options.became(state);
  }
}
