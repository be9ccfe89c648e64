/** Publications and queued items, one after the other, while the cells that own their slots change. */
import type { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import type { QueueName } from "../../shared/queues/contract.ts";
import type { Stores } from "../../shared/program/stores.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { moveSlots } from "./cells.ts";
import { dispatcherOf, numberedItem } from "./dispatcher.ts";
import { eventually } from "./eventually.ts";

const retention = { historySize: 100_000, historySeconds: 300 };

/** The caller starts it, and stops it before the stores. */
export class CellLoad {
  readonly channels = Array.from({ length: 8 }, (_, at) => `board:${at}`);
  readonly queues: readonly QueueName[] = this.channels.map((key) => ({ service: "documents", tenant: "", key }));
  /** Of all channels and queues. */
  readonly slots = [...new Set([...this.channels.map(slotOf), ...this.queues.map(slotOfQueue)])];
  readonly #stores: Stores;
  readonly #dispatcher: Dispatcher;
  readonly #delivered = new Map<string, number[]>();
  #rounds = 0;

  constructor(stores: Stores) {
    this.#stores = stores;
    this.#dispatcher = dispatcherOf(stores.queues, ({ body, key }) => {
      this.#delivered.set(key, [...(this.#delivered.get(key) ?? []), Number(body)]);
    });
  }

  async start(): Promise<void> {
    await this.#dispatcher.start();
  }

  async stop(): Promise<void> {
    await this.#dispatcher.stop();
  }

  /** One publication for each channel, one item for each queue. */
  async round(): Promise<void> {
    const number = ++this.#rounds;
    const { broker, queues } = this.#stores;
    const publishing = this.channels.map(async (channel) =>
      broker.publish({ channel, event: "e", data: String(number), retention }),
    );
    const queueing = this.queues.map(async (queue) => queues.enqueue(numberedItem(queue, number)));
    await Promise.all([...publishing, ...queueing]);
  }

  async moveUnderLoad(to: string): Promise<void> {
    let moved = false;
    await Promise.all([
      moveSlots(this.#stores, to, this.slots, { deadlineMs: 60_000 }).finally(() => (moved = true)),
      (async () => {
        while (!moved) await this.round();
      })(),
    ]);
  }

  /** And settled: what a failover finds unsettled comes twice. */
  async allDelivered(): Promise<void> {
    await eventually(() => this.channels.every((channel) => this.#delivered.get(channel)?.length === this.#rounds));
    await eventually(async () => {
      const { depths, unreachedSlots } = await this.#stores.queues.depths();
      return unreachedSlots === 0 && depths.every(({ waiting, inFlight }) => waiting + inFlight === 0);
    });
  }

  /** Of each round so far, as {@link kept} has them where nothing is lost, comes twice or is out of order. */
  get numbers(): readonly number[] {
    return Array.from({ length: this.#rounds }, (_, at) => at + 1);
  }

  /** By channel: what its history has, and what of its queue was delivered. */
  async kept(): Promise<readonly { history: readonly number[]; delivered: readonly number[] | undefined }[]> {
    const kept = this.channels.map(async (channel) => {
      const query = { channel, retention, limit: 100_000, maxBytes: 1 << 30 };
      const { publications } = await this.#stores.broker.readHistory(query);
      return { history: publications.map(({ data }) => Number(data)), delivered: this.#delivered.get(channel) };
    });
    return Promise.all(kept);
  }

  /** The cells that own the slots. */
  get owners(): ReadonlySet<string | undefined> {
    return new Set(this.slots.map((slot) => this.#stores.cellMaps.map.owners[slot]));
  }
}
