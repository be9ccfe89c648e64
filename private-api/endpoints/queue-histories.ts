/** Queues items in order: once a Redis of the queues may have lost items, refuses further ones until the caller knows about it. */
import type { Enqueued, History, NewItem, QueueStore } from "../../shared/queues/contract.ts";

export class QueueHistories {
  readonly #queues: Pick<QueueStore, "enqueue" | "histories">;
  #known: readonly History[] = [];
  #areSeveral = false;

  constructor(queues: Pick<QueueStore, "enqueue" | "histories">) {
    this.#queues = queues;
  }

  /** The queues are, or were, in several Redis: one may lose items while another keeps the place of what follows them. */
  get areSeveral(): boolean {
    return this.#areSeveral;
  }

  /** @throws TidegateError, and LostWrites until {@link haveChanged} has reported the loss */
  enqueue(item: NewItem): Promise<Enqueued> {
    return this.#queues.enqueue(item, this.#known);
  }

  /** Whether items that were queued before may be lost; false at the first call. From then on {@link enqueue} queues behind what is left. */
  async haveChanged(): Promise<boolean> {
    const known = this.#known;
    const { names, isWhole } = await this.#queues.histories();
    this.#areSeveral ||= names.length > 1;
    this.#known = isWhole ? names : [...new Set([...known, ...names])];
    return known.length > 0 && names.some((name) => !known.includes(name));
  }
}
