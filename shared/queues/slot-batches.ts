/**
 * Groups what is asked of Redis: within one turn of the event loop, or while the calls before are under way. One script call for each
 * Redis, in a cluster one for each slot.
 */
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Script } from "../redis/scripts.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import { scriptKeys, slotPrefix } from "./keys.ts";

export type Argument = string | number;

/** Undefined: there is nothing to send any more. */
type Values = () => readonly Argument[] | undefined;

interface Entry<Reply> {
  readonly slot: number;
  readonly values: Values;
  readonly bytes: number;
  readonly resolve: (reply: Reply | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Of one script call: about a millisecond of Redis. */
const maxEntries = 128;
const maxBytes = 1024 * 1024;
/** Behind calls under way. */
const maxWaiting = { entries: 20_000, bytes: 32 * 1024 * 1024 };
/** Calls without an answer hold up entries of other slots for so long at most. */
const defaultHoldMs = 5;

/** The arguments of a script for groups of entries, each group of one slot. */
export type Arguments = (
  groups: readonly { prefix: string; entries: readonly (readonly Argument[])[] }[],
) => (string | number)[];

export class SlotBatches<Reply> {
  readonly #script: Script<Reply[]>;
  readonly #arguments: Arguments;
  readonly #cells: Pick<Cells, "groups">;
  readonly #inOrder: boolean;
  readonly #holdMs: number;
  /** In the order of the calls of {@link add}. */
  #waiting: Entry<Reply>[] = [];
  #waitingBytes = 0;
  #callsUnderWay = 0;
  /** With a call under way, where entries are in order. */
  readonly #busySlots = new Set<number>();
  #isScheduled = false;
  /** Runs while entries wait for calls. */
  #holdTimer: NodeJS.Timeout | undefined;

  /**
   * @param options.script replies with an array: a reply for each entry, in order
   * @param options.inOrder see {@link add}
   * @param options.holdMs longer than the default in tests
   */
  constructor(options: {
    script: Script<Reply[]>;
    arguments: Arguments;
    cells: Pick<Cells, "groups">;
    inOrder: boolean;
    holdMs?: number;
  }) {
    this.#script = options.script;
    this.#arguments = options.arguments;
    this.#cells = options.cells;
    this.#inOrder = options.inOrder;
    this.#holdMs = options.holdMs ?? defaultHoldMs;
  }

  /**
   * With `inOrder` entries of one slot are executed in the order of the calls: a call of a script may fail, or be sent once more, while a later
   * one succeeds, so a slot has one under way at a time. Entries of a slot that wait for a call fail with it.
   *
   * @param values is called when they are sent, in the same turn of the event loop, and again where that is repeated.
   * @param bytes about as long as the values
   * @returns undefined: they were not sent.
   * @throws TidegateError `broker_unavailable` where too much waits
   */
  async add(slot: number, values: Values, bytes: number): Promise<Reply | undefined> {
    if (this.#waiting.length >= maxWaiting.entries || this.#waitingBytes + bytes > maxWaiting.bytes) {
      throw brokerUnavailable("too many items wait for the message store");
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ slot, values, bytes, resolve, reject });
      this.#waitingBytes += bytes;
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#callsUnderWay > 0) {
      this.#holdTimer ??= setTimeout(() => this.#flush(), this.#holdMs);
    } else if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(() => {
        this.#isScheduled = false;
        this.#flush();
      });
    }
  }

  #flush(): void {
    clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
    const free = this.#take(({ slot }) => !this.#busySlots.has(slot));
    for (const batch of chunks(bySlot(free).flat())) {
      // A slot may have more entries than one call takes.
      const [now, later] = parted(batch, ({ slot }) => !this.#busySlots.has(slot));
      if (later.length > 0) this.#putBack(later);
      if (now.length > 0) this.#run(now);
    }
  }

  #take(isTaken: (entry: Entry<Reply>) => boolean): Entry<Reply>[] {
    const [taken, left] = parted(this.#waiting, isTaken);
    this.#waiting = left;
    for (const { bytes } of taken) this.#waitingBytes -= bytes;
    return taken;
  }

  /** Nothing of their slots waits: {@link #flush} took all of it. */
  #putBack(entries: readonly Entry<Reply>[]): void {
    this.#waiting.push(...entries);
    for (const { bytes } of entries) this.#waitingBytes += bytes;
  }

  #run(batch: readonly Entry<Reply>[]): void {
    const slots = new Map(bySlot(batch).map((entries) => [entries[0]?.slot ?? 0, entries]));
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes, 0);
    if (this.#inOrder) for (const slot of slots.keys()) this.#busySlots.add(slot);
    const groups = this.#cells.groups([...slots.keys()], async (cell, own) => this.#ask(cell, own, slots), bytes);
    for (const { slots: own, replies } of groups) {
      this.#callsUnderWay++;
      replies.then(
        () => this.#ended(own),
        (error: unknown) => {
          const behind = this.#inOrder ? this.#take(({ slot }) => own.includes(slot)) : [];
          this.#ended(own);
          // An entry that has its reply keeps it.
          for (const entry of [...own.flatMap((slot) => slots.get(slot) ?? []), ...behind]) entry.reject(error);
        },
      );
    }
  }

  #ended(slots: readonly number[]): void {
    this.#callsUnderWay--;
    for (const slot of slots) this.#busySlots.delete(slot);
    if (this.#waiting.length > 0) this.#schedule();
  }

  async #ask(
    cell: CellAccess,
    own: readonly number[],
    slots: ReadonlyMap<number, readonly Entry<Reply>[]>,
  ): Promise<void> {
    const sent: Entry<Reply>[] = [];
    const groups = own.map((slot) => ({
      prefix: slotPrefix(cell.root, slot),
      entries: (slots.get(slot) ?? []).flatMap((entry) => {
        const values = entry.values();
        if (values) sent.push(entry);
        else entry.resolve(undefined);
        return values ? [values] : [];
      }),
    }));
    if (sent.length === 0) return;
    const replies = await cell.run(this.#script, ...scriptKeys(cell, own[0] ?? 0), ...this.#arguments(groups));
    for (const [index, entry] of sent.entries()) entry.resolve(replies[index]);
  }
}

function parted<Reply>(
  entries: readonly Entry<Reply>[],
  isFirst: (entry: Entry<Reply>) => boolean,
): [Entry<Reply>[], Entry<Reply>[]] {
  const parts: [Entry<Reply>[], Entry<Reply>[]] = [[], []];
  for (const entry of entries) parts[isFirst(entry) ? 0 : 1].push(entry);
  return parts;
}

function bySlot<Reply>(entries: readonly Entry<Reply>[]): Entry<Reply>[][] {
  const slots = new Map<number, Entry<Reply>[]>();
  for (const entry of entries) {
    const group = slots.get(entry.slot);
    if (group) group.push(entry);
    else slots.set(entry.slot, [entry]);
  }
  return [...slots.values()];
}

function chunks<Reply>(entries: readonly Entry<Reply>[]): Entry<Reply>[][] {
  const result: Entry<Reply>[][] = [];
  let chunk: Entry<Reply>[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (chunk.length > 0 && (chunk.length >= maxEntries || bytes + entry.bytes > maxBytes)) {
      result.push(chunk);
      chunk = [];
      bytes = 0;
    }
    chunk.push(entry);
    bytes += entry.bytes;
  }
  if (chunk.length > 0) result.push(chunk);
  return result;
}
