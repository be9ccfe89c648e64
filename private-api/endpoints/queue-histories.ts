/** Queues items after those that were queued before, and no further where a Redis of the queues may have lost these. */
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

  /** @throws TidegateError, and LostWrites until {@link haveChanged} has told of it */
  enqueue(item: NewItem): Promise<Enqueued> {
    return this.#queues.enqueue(item, this.#known);
  }

  /** What was queued before may be lost; false at the first call. What is queued from now on follows what there is. */
  async haveChanged(): Promise<boolean> {
    const known = this.#known;
    const { names, isWhole } = await this.#queues.histories();
    this.#areSeveral ||= names.length > 1;
    this.#known = isWhole ? names : [...new Set([...known, ...names])];
    return known.length > 0 && names.some((name) => !known.includes(name));
  }
}
