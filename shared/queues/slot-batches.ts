/**
 * Batches requests to Redis: those of one turn of the event loop, or those that arrive while earlier calls are under way. One script call
 * for each Redis, in a cluster one for each slot.
 */
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Script } from "../redis/scripts.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import { scriptKeys } from "./keys.ts";

/**
 * What the script takes for one entry. One text, because the client takes a quarter of a microsecond for each argument.
 * @param contentAt which of the call's contents the entry has, from 1 on; 0: it has none
 * @returns undefined: there is nothing to send any more
 */
type EntryText = (contentAt: number) => string | undefined;

/** Many entries may have the same object. */
interface Content {
  readonly text: string;
}

interface Entry {
  readonly slot: number;
  readonly text: EntryText;
  readonly bytes: number;
  /** @see SlotBatches.add */
  readonly content: Content | undefined;
  readonly resolve: (reply: string | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Entries of one slot that go into one call. */
interface Part {
  readonly slot: number;
  readonly entries: Entry[];
  bytes: number;
  /** No further entry is added, because one of the slot was left for a later call. */
  isClosed: boolean;
}

/** Of one script call: about a millisecond of Redis. */
const maxEntries = 128;
const maxBytes = 1024 * 1024;
/** Behind calls under way. */
const maxWaiting = { entries: 20_000, bytes: 32 * 1024 * 1024 };
/** Calls without an answer hold up entries of other slots no longer than this. */
const defaultHoldMs = 5;

export interface SlotBatchesOptions {
  /**
   * Its values: what `head` returns; then the entries, those of one slot after each other; then their contents. An entry begins with its slot and a
   * space: see slot.part.lua. The script returns one text with a reply for each entry, in order: a client reads one long text as fast as a short one.
   */
  readonly script: Script<string>;
  /** @param entries of all slots */
  readonly head: (entries: number) => readonly (string | number)[];
  /** Between two replies; "": each is one character. */
  readonly separator: string;
  readonly cells: Pick<Cells, "groups">;
  /** @see SlotBatches.add */
  readonly inOrder: boolean;
  /** Longer than the default in tests. */
  readonly holdMs?: number;
}

export class SlotBatches {
  readonly #options: SlotBatchesOptions;
  /** In the order of the calls of {@link add}. */
  #waiting: Entry[] = [];
  #waitingBytes = 0;
  #callsUnderWay = 0;
  /** With `inOrder`, slots that have a call under way. */
  readonly #busySlots = new Set<number>();
  #isScheduled = false;
  /** Slots of entries that were refused in this turn of the event loop: their callers hear of it when the turn ends. */
  readonly #fullSlots = new Set<number>();
  /** Runs while entries wait for calls. */
  #holdTimer: NodeJS.Timeout | undefined;

  constructor(options: SlotBatchesOptions) {
    this.#options = options;
  }

  /**
   * With `inOrder`, the entries of one slot are executed in the order in which they were added. A script call may fail, or be sent once more,
   * while a later one succeeds, so a slot has one call under way at a time. Entries of a slot that wait behind a call fail with it.
   *
   * @param text called when the entry is sent, in the same turn of the event loop, and again if that is repeated.
   * @param bytes length of text and content, about
   * @param content a call has the same object once
   * @returns undefined: the entry was not sent.
   * @throws TidegateError `broker_unavailable` if too much waits
   */
  add(slot: number, text: EntryText, bytes: number, content?: Content): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      const isFull = this.#waiting.length >= maxWaiting.entries || this.#waitingBytes + bytes > maxWaiting.bytes;
      // Later entries of the slot are refused as well, even if they would fit: they must not overtake this one.
      if (isFull || this.#fullSlots.has(slot)) {
        if (this.#fullSlots.size === 0) setImmediate(() => this.#fullSlots.clear());
        this.#fullSlots.add(slot);
        reject(brokerUnavailable("too many items wait for the message store"));
        return;
      }
      this.#waiting.push({ slot, text, bytes, content, resolve, reject });
      this.#waitingBytes += bytes;
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#callsUnderWay > 0) {
      this.#holdTimer ??= setTimeout(() => this.#flush(), this.#options.holdMs ?? defaultHoldMs);
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
    for (const call of callsOf(this.#takeParts())) this.#run(call);
  }

  /** The entries that need not wait for a call. With `inOrder`, no more of a slot than one call takes. */
  #takeParts(): Part[] {
    const parts: Part[] = [];
    const bySlot = new Map<number, Part>();
    const left: Entry[] = [];
    for (const entry of this.#waiting) {
      const { slot, bytes } = entry;
      const part = bySlot.get(slot);
      if (part && hasRoom(part, bytes)) {
        part.entries.push(entry);
        part.bytes += bytes;
      } else if (this.#busySlots.has(slot) || (part && this.#options.inOrder)) {
        // What follows of the slot must not overtake this one.
        if (part) part.isClosed = true;
        left.push(entry);
      } else {
        const first = { slot, entries: [entry], bytes, isClosed: false };
        bySlot.set(slot, first);
        parts.push(first);
      }
    }
    this.#waiting = left;
    for (const { bytes } of parts) this.#waitingBytes -= bytes;
    return parts;
  }

  #run(call: readonly Part[]): void {
    const slots = new Map(call.map(({ slot, entries }) => [slot, entries]));
    const bytes = call.reduce((sum, part) => sum + part.bytes, 0);
    const { cells, inOrder } = this.#options;
    if (inOrder) for (const slot of slots.keys()) this.#busySlots.add(slot);
    const groups = cells.groups([...slots.keys()], async (cell, own) => this.#ask(cell, own, slots), bytes);
    for (const { slots: own, replies } of groups) {
      this.#callsUnderWay++;
      replies.then(
        () => this.#ended(own),
        (error: unknown) => {
          const behind = inOrder ? this.#takeBehind(own) : [];
          this.#ended(own);
          // An entry that has its reply keeps it.
          for (const entry of [...own.flatMap((slot) => slots.get(slot) ?? []), ...behind]) entry.reject(error);
        },
      );
    }
  }

  /** Removes and returns the entries that wait behind a call of these slots. */
  #takeBehind(slots: readonly number[]): Entry[] {
    const taken = this.#waiting.filter(({ slot }) => slots.includes(slot));
    this.#waiting = this.#waiting.filter(({ slot }) => !slots.includes(slot));
    for (const { bytes } of taken) this.#waitingBytes -= bytes;
    return taken;
  }

  #ended(slots: readonly number[]): void {
    this.#callsUnderWay--;
    for (const slot of slots) this.#busySlots.delete(slot);
    if (this.#waiting.length > 0) this.#schedule();
  }

  async #ask(cell: CellAccess, own: readonly number[], slots: ReadonlyMap<number, readonly Entry[]>): Promise<void> {
    const { script, head, separator } = this.#options;
    const sent: Entry[] = [];
    const texts: string[] = [];
    const contents: string[] = [];
    const indexes = new Map<object, number>();
    for (const slot of own) {
      for (const entry of slots.get(slot) ?? []) {
        const { content } = entry;
        const contentAt = content ? (indexes.get(content) ?? contents.length + 1) : 0;
        const text = entry.text(contentAt);
        if (text === undefined) {
          entry.resolve(undefined);
          continue;
        }
        sent.push(entry);
        texts.push(`${slot} ${text}`);
        if (content && contentAt > contents.length) {
          contents.push(content.text);
          indexes.set(content, contentAt);
        }
      }
    }
    if (sent.length === 0) return;
    const reply = await cell.run(script, ...scriptKeys(cell, own[0] ?? 0), ...head(sent.length), ...texts, ...contents);
    const replies = reply.split(separator);
    for (const [index, entry] of sent.entries()) entry.resolve(replies[index]);
  }
}

function hasRoom({ entries, bytes, isClosed }: Part, more: number): boolean {
  return !isClosed && entries.length < maxEntries && bytes + more <= maxBytes;
}

/** Packs parts into calls, each within {@link maxEntries} and {@link maxBytes}. */
function callsOf(parts: readonly Part[]): Part[][] {
  const calls: Part[][] = [];
  let call: Part[] = [];
  let size = { entries: 0, bytes: 0 };
  for (const part of parts) {
    const entries = size.entries + part.entries.length;
    const bytes = size.bytes + part.bytes;
    if (call.length > 0 && entries <= maxEntries && bytes <= maxBytes) {
      call.push(part);
      size = { entries, bytes };
    } else {
      call = [part];
      calls.push(call);
      size = { entries: part.entries.length, bytes: part.bytes };
    }
  }
  return calls;
}
