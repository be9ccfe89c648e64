/** A client as the contract has it, on a stock Socket.IO client: it keeps positions, comes back, and presents them. */
import { io, type Socket } from "socket.io-client";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Ack, Resync, SubscribeAck, WirePublication } from "../../shared/protocol/wire.ts";
import type { FollowerLedger, SeenPublication } from "./follower-ledger.ts";

/** What publishers of the checker put into their publications. */
export interface ItemData {
  item: string;
}

export interface CheckerClientOptions {
  readonly urls: readonly string[];
  readonly token: string;
  /** By channel. */
  readonly ledgers: ReadonlyMap<string, FollowerLedger>;
  /** Between two tries, at most. */
  readonly reconnectMs: number;
  /** From 0 to 1: which node, and when. */
  readonly random: () => number;
}

/** Without an ack by then the connection is given up: what became of the request is not known. */
const ackWithinMs = 15_000;
const connectWithinMs = 10_000;
/** A refusal's wish is obeyed up to here. */
const maxRetryAfterMs = 5_000;

export class CheckerClient {
  readonly #options: CheckerClientOptions;
  /** What it wants to follow. */
  readonly #wanted = new Set<string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Channels with a request under way: one at a time, so that the position that is presented is the last. */
  readonly #asking = new Set<string>();
  #socket: Socket | undefined;
  #welcomed = false;
  #stopped = false;
  connects = 0;
  refusals = 0;

  constructor(options: CheckerClientOptions) {
    this.#options = options;
    for (const channel of options.ledgers.keys()) this.#wanted.add(channel);
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#lose("stopped");
  }

  get connected(): boolean {
    return this.#socket?.connected ?? false;
  }

  /** Leaves without a word, and comes back: on another node, where there is one. */
  drop(): void {
    this.#lose("dropped");
    this.#connectSoon();
  }

  /** Also where it follows the channel already: the subscription is replaced. */
  follow(channel: string): void {
    this.#wanted.add(channel);
    if (this.#welcomed && !this.#asking.has(channel)) this.#subscribe(channel);
  }

  /** Whatever it left, it follows again. */
  followAll(): void {
    for (const channel of this.#options.ledgers.keys()) if (!this.#wanted.has(channel)) this.follow(channel);
  }

  leave(channel: string): void {
    this.#wanted.delete(channel);
    this.#pursue(channel);
  }

  /** Does what is wanted now, once nothing is under way. */
  #pursue(channel: string): void {
    if (!this.#welcomed || this.#asking.has(channel)) return;
    const { live } = this.#ledger(channel);
    if (this.#wanted.has(channel) && !live) this.#subscribe(channel);
    else if (!this.#wanted.has(channel) && live) this.#unsubscribe(channel);
  }

  #connect(): void {
    const { urls, token, random } = this.#options;
    const url = urls[Math.floor(random() * urls.length)] ?? "";
    const socket = io(url, {
      ...{ transports: ["websocket"], auth: { token }, forceNew: true, reconnection: false },
      timeout: connectWithinMs,
    });
    this.#socket = socket;
    const leave = (why: string): void => {
      if (this.#socket !== socket) return;
      this.#lose(why);
      this.#connectSoon();
    };
    socket.once("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      this.refusals++;
      if (this.#socket !== socket) return;
      this.#lose(error.data?.code ?? error.message);
      this.#connectSoon(error.data?.retryAfterMs);
    });
    socket.once("disconnect", leave);
    socket.onAny((event: string, data: unknown, meta: unknown) => {
      if (this.#socket !== socket) return;
      if (event === "sync:welcome") {
        this.connects++;
        this.#welcomed = true;
        for (const channel of this.#wanted) this.#subscribe(channel);
      } else if (event === "sync:resync") {
        const { channel, position, reason } = data as Resync;
        this.#ledger(channel).resynced(position, reason);
      } else if (event === "sync:revoked") {
        const { channel, reason } = data as { channel: string; reason: string };
        this.#ledger(channel).left(`revoked: ${reason}`);
      } else if (!event.startsWith("sync:")) this.#deliver(data, meta);
    });
  }

  #deliver(data: unknown, meta: unknown): void {
    const { channel, offset, prev } = meta as { channel: string; offset: number; prev?: number };
    this.#options.ledgers.get(channel)?.delivered({ offset, prev, item: (data as ItemData).item });
  }

  #subscribe(channel: string): void {
    const ledger = this.#ledger(channel);
    const { position } = ledger;
    ledger.subscribing({ again: ledger.live });
    this.#request("sync:subscribe", channel, { channel, ...(position && { position }) }, (answer) => {
      const ack = answer as Ack<SubscribeAck>;
      if (ack.ok) {
        ledger.acked({ ...ack, publications: ack.publications.map(seen) });
        this.#pursue(channel);
        return;
      }
      ledger.left(ack.error.code);
      const retryMs = Math.min(ack.error.retryAfterMs ?? 0, maxRetryAfterMs) + this.#pause();
      this.#after(retryMs, () => this.#pursue(channel));
    });
  }

  #unsubscribe(channel: string): void {
    this.#request("sync:unsubscribe", channel, { channel }, () => {
      this.#ledger(channel).left("unsubscribed");
      this.#pursue(channel);
    });
  }

  /** Calls back in the order of what arrives: nothing that follows the ack is seen before it. */
  #request(event: string, channel: string, data: object, answered: (ack: unknown) => void): void {
    const socket = this.#socket;
    this.#asking.add(channel);
    const giveUp = this.#after(ackWithinMs, () => {
      if (this.#socket === socket) this.drop();
    });
    socket?.emit(event, data, (ack: unknown) => {
      clearTimeout(giveUp);
      this.#timers.delete(giveUp);
      if (this.#socket !== socket) return;
      this.#asking.delete(channel);
      answered(ack);
    });
  }

  #lose(why: string): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#welcomed = false;
    this.#asking.clear();
    socket?.disconnect();
    for (const ledger of this.#options.ledgers.values()) ledger.left(why);
  }

  #connectSoon(retryAfterMs = 0): void {
    if (this.#stopped) return;
    this.#after(Math.min(retryAfterMs, maxRetryAfterMs) + this.#pause(), () => {
      if (!this.#socket) this.#connect();
    });
  }

  #pause(): number {
    return this.#options.random() * this.#options.reconnectMs;
  }

  #after(ms: number, act: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (!this.#stopped) act();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #ledger(channel: string): FollowerLedger {
    const ledger = this.#options.ledgers.get(channel);
    if (!ledger) throw new Error(`told of ${channel}, which was never asked for`);
    return ledger;
  }
}

function seen({ offset, prev, data }: WirePublication): SeenPublication {
  return { offset, prev, item: (data as ItemData).item };
}
