/** A stock Socket.IO client that follows the contract: it keeps positions, reconnects, and presents them. */
import type { Ack, Resync, SubscribeAck, WirePublication } from "../../shared/protocol/wire.ts";
import { Connection } from "./connection.ts";
import type { FollowerLedger, SeenPublication } from "./follower-ledger.ts";

/** The data of the checker's publications. */
export interface ItemData {
  item: string;
  /** Its publisher: items of one publisher are published one after the other. */
  key: string;
}

export interface CheckerClientOptions {
  readonly urls: readonly string[];
  readonly token: string;
  /** By channel. */
  readonly ledgers: ReadonlyMap<string, FollowerLedger>;
  /** Longest pause between two tries. */
  readonly reconnectMs: number;
  /** From 0 to 1; draws the node and the pauses. */
  readonly random: () => number;
}

/** Drops the connection without an ack by then: the outcome of the request is unknown. */
const ackWithinMs = 15_000;

export class CheckerClient {
  readonly #ledgers: ReadonlyMap<string, FollowerLedger>;
  readonly #connection: Connection;
  /** Channels that it is to follow. */
  readonly #wanted = new Set<string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Channels with a request under way: one at a time, so that each presents the latest position. */
  readonly #requesting = new Set<string>();
  #stopped = false;

  constructor({ ledgers, ...options }: CheckerClientOptions) {
    this.#ledgers = ledgers;
    for (const channel of ledgers.keys()) this.#wanted.add(channel);
    this.#connection = new Connection({
      ...options,
      onWelcome: () => {
        for (const channel of this.#wanted) this.#subscribe(channel);
      },
      onEvent: (event, data, meta) => this.#receive(event, data, meta),
      onLeft: (why) => {
        this.#requesting.clear();
        for (const ledger of this.#ledgers.values()) ledger.left(why);
      },
    });
  }

  start(): void {
    this.#connection.start();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#connection.stop();
  }

  get connected(): boolean {
    return this.#connection.connected;
  }

  get connects(): number {
    return this.#connection.connects;
  }

  /** Drops the connection and reconnects, to a random node. */
  drop(): void {
    this.#connection.drop();
  }

  /** Subscribes; replaces a subscription that exists. */
  follow(channel: string): void {
    this.#wanted.add(channel);
    if (this.#connection.socket && !this.#requesting.has(channel)) this.#subscribe(channel);
  }

  /** Follows the channels again that it left. */
  followAll(): void {
    for (const channel of this.#ledgers.keys()) if (!this.#wanted.has(channel)) this.follow(channel);
  }

  leave(channel: string): void {
    this.#wanted.delete(channel);
    this.#reconcile(channel);
  }

  /** Subscribes or unsubscribes as wanted, unless a request is under way. */
  #reconcile(channel: string): void {
    if (!this.#connection.socket || this.#requesting.has(channel)) return;
    const { live } = this.#ledger(channel);
    if (this.#wanted.has(channel) && !live) this.#subscribe(channel);
    else if (!this.#wanted.has(channel) && live) this.#unsubscribe(channel);
  }

  #receive(event: string, data: unknown, meta: unknown): void {
    if (event === "sync:resync") {
      const { channel, position, reason } = data as Resync;
      this.#ledger(channel).resynced(position, reason);
    } else if (event === "sync:revoked") {
      const { channel, reason } = data as { channel: string; reason: string };
      this.#ledger(channel).left(`revoked: ${reason}`);
    } else if (!event.startsWith("sync:")) this.#deliver(data, meta);
  }

  #deliver(data: unknown, meta: unknown): void {
    const { channel, offset, prev } = meta as { channel: string; offset: number; prev?: number };
    this.#ledgers.get(channel)?.delivered({ offset, prev, item: (data as ItemData).item });
  }

  #subscribe(channel: string): void {
    const ledger = this.#ledger(channel);
    const { position } = ledger;
    ledger.subscribing({ again: ledger.live });
    this.#request("sync:subscribe", channel, { channel, ...(position && { position }) }, (answer) => {
      const ack = answer as Ack<SubscribeAck>;
      if (ack.ok) {
        ledger.acked({ ...ack, publications: ack.publications.map(seen) });
        this.#reconcile(channel);
        return;
      }
      ledger.left(ack.error.code);
      this.#after(this.#connection.pauseMs(ack.error.retryAfterMs), () => this.#reconcile(channel));
    });
  }

  #unsubscribe(channel: string): void {
    this.#request("sync:unsubscribe", channel, { channel }, () => {
      this.#ledger(channel).left("unsubscribed");
      this.#reconcile(channel);
    });
  }

  /** Calls back as the ack arrives: no later event is handled before it. */
  #request(event: string, channel: string, data: object, answered: (ack: unknown) => void): void {
    const { socket } = this.#connection;
    this.#requesting.add(channel);
    const giveUp = this.#after(ackWithinMs, () => {
      if (this.#connection.socket === socket) this.drop();
    });
    socket?.emit(event, data, (ack: unknown) => {
      clearTimeout(giveUp);
      this.#timers.delete(giveUp);
      if (this.#connection.socket !== socket) return;
      this.#requesting.delete(channel);
      answered(ack);
    });
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
    const ledger = this.#ledgers.get(channel);
    if (!ledger) throw new Error(`event of ${channel}, which the client never followed`);
    return ledger;
  }
}

function seen({ offset, prev, data }: WirePublication): SeenPublication {
  return { offset, prev, item: (data as ItemData).item };
}
