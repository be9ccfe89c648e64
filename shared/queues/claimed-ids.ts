import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { slotOf } from "../redis/slots.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import { TidegateError } from "../runtime/errors.ts";
import { allSettled, withDeadline } from "../runtime/timing.ts";
import { dedupeMs, type Enqueued, type History, type NewItem, type QueueName } from "./contract.ts";
import { claimKey, idKey, parseQueue, queueText } from "./keys.ts";
import { SlotBatches } from "./slot-batches.ts";

const claimScript = script<string>(new URL("claim-ids.lua", import.meta.url), 2, { isBatch: true });

/** After that an item is stored without a claim: a Redis that is away delays no queue of another one for longer. */
const defaultClaimWaitMs = 500;
/** Other queues that want the id, one after the other, and store nothing. */
const maxClaims = 10;

/** Items of one queue that have not ended: their claims may be answered in any order. */
interface Line {
  open: number;
  /** Each rejects an item that has not been sent: one that was given before it has failed. */
  readonly unsent: Set<(failure: TidegateError) => void>;
  /** Resolves once the last item has been sent, or has failed. */
  sent: Promise<void>;
}

type Store = (item: NewItem, after?: readonly History[]) => Promise<Enqueued>;

/**
 * Recognises an id in all queues where no script reaches the slot of the id and that of the queue. In the slot of the id its first
 * queue claims it; in the slot of the queue the script that stores the item remembers the id. So a claim without an item, after a crash
 * between the two, keeps nothing out: another queue asks the first one, and takes the claim over. Where an item is on its way meanwhile,
 * or the slot of the id or of the first queue does not answer, an id may be stored in two queues; it is never lost.
 * Other items of a queue wait for those whose claims are open: all keep their order.
 */
export class ClaimedIds {
  readonly #cells: Pick<Cells, "groups" | "ofSlot">;
  readonly #enqueue: Store;
  readonly #wasStored: (queue: QueueName, dedupeId: string) => Promise<boolean>;
  readonly #waitMs: number;
  readonly #batches: SlotBatches;
  /** By queue; each has at least one item. */
  readonly #lines = new Map<string, Line>();

  /**
   * @param options.enqueue stores an item where its own queue has not stored its id
   * @param options.wasStored whether that queue has
   * @param options.waitMs for the claim of an item
   */
  constructor(
    cells: Pick<Cells, "groups" | "ofSlot">,
    options: {
      enqueue: Store;
      wasStored: (queue: QueueName, dedupeId: string) => Promise<boolean>;
      waitMs?: number | undefined;
    },
  ) {
    this.#cells = cells;
    this.#enqueue = options.enqueue;
    this.#wasStored = options.wasStored;
    this.#waitMs = options.waitMs ?? defaultClaimWaitMs;
    this.#batches = new SlotBatches({
      script: claimScript,
      head: () => [dedupeMs],
      separator: "\n",
      cells,
      inOrder: false,
    });
  }

  /** @see QueueStore.enqueue */
  async add(item: NewItem, after?: readonly History[]): Promise<Enqueued> {
    const text = queueText(item.queue);
    const dedupeId = item.dedupesEverywhere ? item.dedupeId : undefined;
    const line: Line = this.#lines.get(text) ?? { open: 0, unsent: new Set(), sent: Promise.resolve() };
    this.#lines.set(text, line);
    line.open++;
    try {
      // All items before it are sent: the store keeps its place behind them.
      if (dedupeId === undefined && line.unsent.size === 0) return await this.#send(line, item, after);
      return await this.#addInTurn(line, item, { text, dedupeId, after });
    } finally {
      if (--line.open === 0) this.#lines.delete(text);
    }
  }

  /** Sends the item once its claim is answered and all items before it are sent. */
  async #addInTurn(
    line: Line,
    item: NewItem,
    { text, dedupeId, after }: { text: string; dedupeId: string | undefined; after: readonly History[] | undefined },
  ): Promise<Enqueued> {
    const { promise: sent, resolve: markSent } = Promise.withResolvers<void>();
    const before = line.sent;
    line.sent = sent;
    const { promise: failed, reject: fail } = Promise.withResolvers<never>();
    line.unsent.add(fail);
    try {
      const isFree = dedupeId === undefined ? Promise.resolve(true) : this.#isFree(text, dedupeId);
      await Promise.race([allSettled<unknown>([isFree, before]), failed]);
      if (!(await isFree)) return { kind: "duplicate" };
      // An earlier item may have failed in this turn of the event loop.
      if (!line.unsent.delete(fail)) return await failed;
      const stored = this.#send(line, item, after);
      markSent();
      return await stored;
    } catch (error) {
      // One that fails only because of an earlier item takes no later ones with it: else they would, in turn, as long as items overlap.
      if (line.unsent.has(fail)) failUnsent(line);
      throw error;
    } finally {
      line.unsent.delete(fail);
      markSent();
    }
  }

  async #send(line: Line, item: NewItem, after: readonly History[] | undefined): Promise<Enqueued> {
    try {
      return await this.#enqueue(item, after);
    } catch (error) {
      failUnsent(line);
      throw error;
    }
  }

  /** Whether an item with the id was stored. @throws TidegateError `broker_unavailable` */
  async wasStored(dedupeId: string): Promise<boolean> {
    const slot = slotOf(dedupeId);
    const cell = this.#cells.ofSlot(slot);
    const [known, claimed] = await Promise.all([
      cell.run<number>("exists", idKey(cell.root, slot, dedupeId)),
      cell.run<string | null>("get", claimKey(cell.root, slot, dedupeId)),
    ]);
    return known === 1 || (claimed !== null && (await this.#wasStored(parseQueue(claimed), dedupeId)));
  }

  /** False: an item with the id was stored in another queue. True also where that cannot be found out. */
  async #isFree(queue: string, dedupeId: string): Promise<boolean> {
    try {
      return await withDeadline(this.#claim(queue, dedupeId), this.#waitMs, () => true);
    } catch (error) {
      if (error instanceof TidegateError && error.code === "broker_unavailable") return true;
      throw error;
    }
  }

  async #claim(queue: string, dedupeId: string): Promise<boolean> {
    /** Had claimed it, and has not stored it. */
    let abandonedBy = "";
    for (let claims = 0; claims < maxClaims; claims++) {
      const values = [dedupeId, queue, abandonedBy];
      const claimed = await this.#batches.add(slotOf(dedupeId), () => values, dedupeId.length + queue.length);
      if (claimed === "" || claimed === undefined) return true;
      if (claimed === "stored" || (await this.#wasStored(parseQueue(claimed), dedupeId))) return false;
      abandonedBy = claimed;
    }
    return true;
  }
}

/** All may be given again, in their order. */
function failUnsent({ unsent }: Line): void {
  const failure = brokerUnavailable("an earlier item of the queue could not be stored");
  for (const fail of unsent) fail(failure);
  unsent.clear();
}
