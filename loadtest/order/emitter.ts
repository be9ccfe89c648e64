/** A stock client that emits numbered items of some keys, each until it is acknowledged. */
import { setTimeout as pause } from "node:timers/promises";
import type { Socket } from "socket.io-client";
import { Connection } from "../checker/connection.ts";
import type { ItemSender } from "./item-sender.ts";
import type { KeyLedger } from "./key-ledger.ts";
import type { ItemData } from "./receiver.ts";

export interface EmitterOptions {
  readonly urls: readonly string[];
  readonly token: string;
  readonly keys: readonly KeyLedger[];
  /** Items per second of each key. */
  readonly perSecond: number;
  readonly reconnectMs: number;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Called with the node's address as an ack arrives. */
  readonly onAck?: (url: string) => void;
}

/** After that time without an ack the outcome is unknown. */
const ackWithinMs = 15_000;
const retryMs = 100;
/** Part of the emits that come in bursts, without waiting for acks. */
const burstPart = 0.2;
const maxBurst = 6;

export class Emitter implements ItemSender {
  readonly #options: EmitterOptions;
  readonly #connection: Connection;
  readonly #giveUp = new AbortController();
  readonly #waiting = new Set<() => void>();
  /** Emits that were refused, or whose outcome stayed unknown. */
  failures = 0;
  /** By code. */
  readonly refusals = new Map<string, number>();

  constructor(options: EmitterOptions) {
    this.#options = options;
    const changed = (): void => {
      for (const check of this.#waiting) check();
    };
    this.#connection = new Connection({ ...options, onWelcome: changed, onLeft: changed });
  }

  get connects(): number {
    return this.#connection.connects;
  }

  /** Why its connection ended, or was refused, last. */
  get lastEnd(): string {
    return this.#connection.lastEnd;
  }

  get connected(): boolean {
    return this.#connection.connected;
  }

  start(): void {
    this.#connection.start();
  }

  /** Disconnects, and gives up what is not acknowledged. */
  stop(): void {
    this.#giveUp.abort();
    this.#connection.stop();
  }

  drop(): void {
    this.#connection.drop();
  }

  /** Emits items of every key until the signal aborts; then every item is acknowledged, or {@link stop} was called. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#options.keys.map(async (ledger) => {
        while (!signal.aborted) {
          const { random, perSecond } = this.#options;
          const count = random() < burstPart ? 2 + Math.floor(random() * (maxBurst - 1)) : 1;
          await this.#emit(ledger, count);
          await pause((count * 2_000 * random()) / perSecond, undefined, { signal }).catch(() => undefined);
        }
      }),
    );
  }

  /** One more item of every key. */
  async runOnce(): Promise<void> {
    await Promise.all(this.#options.keys.map(async (ledger) => this.#emit(ledger, 1)));
  }

  async #emit(ledger: KeyLedger, count: number): Promise<void> {
    const socket = await this.#connected();
    if (!socket) return;
    const burst = ledger.emit(count);
    const accepted = await Promise.all(burst.map(async (number) => this.#isAccepted(socket, ledger, number)));
    for (const number of burst.filter((_, at) => !accepted[at])) {
      ledger.emittedAgain(number, burst);
      await this.#emitAgain(ledger, number);
    }
  }

  async #emitAgain(ledger: KeyLedger, number: number): Promise<void> {
    const { signal } = this.#giveUp;
    while (!signal.aborted) {
      await pause(retryMs, undefined, { signal }).catch(() => undefined);
      const socket = await this.#connected();
      if (!socket || (await this.#isAccepted(socket, ledger, number))) return;
    }
  }

  /** Emits under an id of the item, so that a repeat does not double it. */
  async #isAccepted(socket: Socket, ledger: KeyLedger, number: number): Promise<boolean> {
    const data: ItemData = { key: ledger.key, n: number };
    const ack = await this.#ackOf(socket, ledger.event, data, `${ledger.key}-${number}`);
    if (ack?.ok && ack.queued && ack.id !== undefined) {
      ledger.accepted(number, ack.id, performance.now());
      this.#options.onAck?.(this.#connection.url);
      return true;
    }
    this.failures++;
    const code = ack ? (ack.error?.code ?? "not queued") : "no ack";
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
    return false;
  }

  /** Undefined: no ack came in time, or the connection ended before. */
  async #ackOf(socket: Socket, event: string, data: ItemData, id: string): Promise<ItemAck | undefined> {
    return new Promise((resolve) => {
      const settle = (ack?: ItemAck): void => {
        clearTimeout(timer);
        socket.off("disconnect", left);
        resolve(ack);
      };
      const left = (): void => settle();
      const timer = setTimeout(() => {
        settle();
        // A connection that leaves emits unanswered is of no use.
        if (this.#connection.socket === socket) this.#connection.drop();
      }, ackWithinMs);
      socket.once("disconnect", left);
      socket.emit(event, data, { id }, settle);
    });
  }

  /** Undefined: stopped. */
  async #connected(): Promise<Socket | undefined> {
    const { signal } = this.#giveUp;
    return new Promise((resolve) => {
      const check = (): void => {
        const { socket } = this.#connection;
        if (!socket && !signal.aborted) return;
        this.#waiting.delete(check);
        signal.removeEventListener("abort", check);
        resolve(signal.aborted ? undefined : socket);
      };
      this.#waiting.add(check);
      signal.addEventListener("abort", check);
      check();
    });
  }
}

interface ItemAck {
  readonly ok: boolean;
  readonly queued?: boolean;
  readonly id?: string;
  readonly error?: { readonly code: string };
}
