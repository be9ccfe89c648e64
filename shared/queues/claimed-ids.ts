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

/** After this an item is stored without a claim, so that a Redis that does not answer delays queues of other ones no longer than this. */
const defaultClaimWaitMs = 500;
/** Most claims for one item. Each further one means that yet another queue has claimed the id and stored nothing. */
const maxClaims = 10;

/** Items of one queue that are being added. Their claims may be answered in any order. */
interface Line {
  open: number;
  /** For each item that is not sent yet, a function that rejects it because an earlier item has failed. */
  readonly unsent: Set<(failure: TidegateError) => void>;
  /** Resolves once the last item has been sent, or has failed. */
  sent: Promise<void>;
}

type Store = (item: NewItem, after?: readonly History[]) => Promise<Enqueued>;

/**
 * Deduplicates ids across all queues when no script can reach both the slot of the id and that of the queue. The first queue claims the id,
 * in the slot of the id; the script that stores the item remembers the id, in the slot of the queue. So a claim without an item, left by a
 * crash between the two steps, blocks nothing: another queue looks into the first one, and takes the claim over. If the item is on its way
 * at that moment, or the slot of the id or of the first queue does not answer, the item may be stored in two queues. It is never lost.
 * Items of a queue wait for earlier ones whose claims are open, so that all keep their order.
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
   * @param options.enqueue stores an item unless its own queue has stored its id
   * @param options.wasStored whether the queue has stored the id
   * @param options.waitMs longest time for the claim of an item
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
      // An item that fails because of an earlier one does not fail later ones in its turn: while items overlap, that would never end.
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

  /** False: an item with the id was stored in another queue. True as well if that cannot be found out. */
  async #isFree(queue: string, dedupeId: string): Promise<boolean> {
    try {
      return await withDeadline(this.#claim(queue, dedupeId), this.#waitMs, () => true);
    } catch (error) {
      if (error instanceof TidegateError && error.code === "broker_unavailable") return true;
      throw error;
    }
  }

  async #claim(queue: string, dedupeId: string): Promise<boolean> {
    /** The queue that had claimed the id and has not stored it, or "". */
    let abandonedBy = "";
    for (let claims = 0; claims < maxClaims; claims++) {
      const text = `${queue}\n${abandonedBy}\n${dedupeId}`;
      const claimed = await this.#batches.add(slotOf(dedupeId), () => text, text.length);
      if (claimed === "" || claimed === undefined) return true;
      if (claimed === "stored" || (await this.#wasStored(parseQueue(claimed), dedupeId))) return false;
      abandonedBy = claimed;
    }
    return true;
  }
}

/** Rejects the items that are not sent yet. The caller may give all of them again, in their order. */
function failUnsent({ unsent }: Line): void {
  const failure = brokerUnavailable("an earlier item of the queue could not be stored");
  for (const fail of unsent) fail(failure);
  unsent.clear();
}
