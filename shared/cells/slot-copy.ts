/** Copies the keys of slots from one cell to another while the source is in use. */
import { randomUUID } from "node:crypto";
import { slotTag } from "../channels/keys.ts";
import { leaseMs } from "../queues/contract.ts";
import { scriptKeys, slotPrefix } from "../queues/keys.ts";
import type { SlotMove } from "../redis/cell-map.ts";
import { type Argument, bytesOf } from "../redis/client.ts";
import type { RedisConnections } from "../redis/connections.ts";
import type { KeyChanges } from "../redis/key-changes.ts";
import { script } from "../redis/scripts.ts";
import { arrivalsKey } from "./keys.ts";

/** Names that Redis looks at in one SCAN: about 0.3 ms. */
const scanCount = 1_000;
/** Keys whose copies are under way at once. */
const keysAtOnce = 100;
/** Of one call that restores. A larger value has a call of its own. */
const maxCallBytes = 256 * 1024;
/** Changed keys that are left for the time in which the slots are closed. */
const fewChanged = 50;
/** Rounds of copying what has changed in the round before. */
const maxRounds = 30;
/** Longer than slots stay closed. */
const markerMs = 3_000;
/** A queue with more items is copied in parts, so that neither cell stalls, and continued where it grew. */
const longQueue = 256;
/** Of the items of one part. */
const partBytes = 128 * 1024;

const beginScript = script<0 | 1>(new URL("begin-arrival.lua", import.meta.url), 1);
const restoreScript = script<0 | 1>(new URL("restore-keys.lua", import.meta.url), 1);
const sealScript = script<0 | 1>(new URL("seal-arrival.lua", import.meta.url), 1);
const endScript = script(new URL("end-arrival.lua", import.meta.url), 1);
const clearScript = script<0 | 1>(new URL("clear-keys.lua", import.meta.url), 1);
const readListScript = script<string[]>(new URL("read-list.lua", import.meta.url), 1);
const appendListScript = script<0 | 1>(new URL("append-list.lua", import.meta.url), 1);
const numbersScript = script<string>(new URL("../queues/raise-numbers.lua", import.meta.url), 2);

interface Copy {
  slot: number;
  key: string;
  ttlMs: number;
  /** Undefined: the key is gone. */
  value: Buffer | undefined;
}

interface Ends {
  source: RedisConnections;
  target: RedisConnections;
  move: Pick<SlotMove, "id" | "slots">;
}

/** One attempt to copy the slots of a move. Another attempt, by any process, ends it. */
export class SlotCopy {
  readonly #source: RedisConnections;
  readonly #target: RedisConnections;
  readonly #move: Pick<SlotMove, "id" | "slots">;
  readonly #slots: ReadonlySet<number>;
  readonly #attempt = randomUUID();
  readonly #changes: KeyChanges;
  /** Long queues that are copied in parts → the number of the last item that was. */
  readonly #inParts = new Map<string, number>();
  #copied = 0;

  constructor({ source, target, move }: Ends) {
    this.#source = source;
    this.#target = target;
    this.#move = move;
    this.#slots = new Set(move.slots);
    this.#changes = source.changesOf(move.slots.map((slot) => `${slotTag(source.root, slot)}:`));
  }

  /** Keys so far, repetitions included. */
  get copied(): number {
    return this.#copied;
  }

  /** Copies everything, then what has changed meanwhile, until little is left. */
  async copyWhileOpen(): Promise<void> {
    const { id, slots } = this.#move;
    const arrivals = arrivalsKey(this.#target.root);
    if ((await this.#target.run(beginScript, arrivals, id, this.#attempt, ...slots)) === 0) throw superseded();
    await clearSlots(this.#target, this.#move);
    await this.#changes.start();
    await forEachKey(this.#source, this.#slots, async (keys) => this.#copy(keys));
    for (let round = 0; this.#changes.count > fewChanged; round++) {
      if (round === maxRounds) throw new Error("keys of the slots change faster than they can be copied");
      await this.#copy([...this.#changes.take()]);
    }
  }

  /** Copies the rest. The source must take no more calls of the slots. Nothing can be copied after it. */
  async finish(): Promise<void> {
    await this.#receiveChanges();
    await this.#copy([...this.#changes.take()]);
    const [slot = 0] = this.#move.slots;
    const given = await this.#source.run(numbersScript, ...scriptKeys(this.#source, slot), 0);
    await this.#target.run(numbersScript, ...scriptKeys(this.#target, slot), given);
    const { id, slots } = this.#move;
    const leases = slots.flatMap((slot) => [slot, `${slotPrefix(this.#target.root, slot)}leases`]);
    const values = [id, this.#attempt, leaseMs, ...leases];
    if ((await this.#target.run(sealScript, arrivalsKey(this.#target.root), ...values)) === 0) throw superseded();
  }

  async stop(): Promise<void> {
    await this.#changes.stop();
  }

  /** Every change before now is known. Redis reports changes of one prefix in order, so each slot has a marker. */
  async #receiveChanges(): Promise<void> {
    const markers = this.#move.slots.map((slot) => `${slotTag(this.#source.root, slot)}:moving`);
    const arrivals = markers.map(async (marker) => this.#changes.arrival(marker, markerMs));
    const writes = markers.map(async (marker) => this.#source.run("set", marker, "1", "PX", markerMs));
    await Promise.all([...arrivals, ...writes]);
  }

  async #copy(keys: readonly string[]): Promise<void> {
    const wanted = keys.flatMap((key) => {
      const slot = movedSlot(this.#source.root, key);
      return slot !== undefined && this.#slots.has(slot) ? [{ slot, key }] : [];
    });
    for (let at = 0; at < wanted.length; at += keysAtOnce) {
      const part = wanted.slice(at, at + keysAtOnce);
      const copies = await Promise.all(part.map(async ({ slot, key }) => this.#read(slot, key)));
      await this.#restore(copies.filter((copy) => copy !== "long"));
      for (const [index, { slot, key }] of part.entries())
        if (copies[index] === "long") await this.#copyQueue(slot, key);
      this.#copied += part.length;
    }
  }

  async #read(slot: number, key: string): Promise<Copy | "long"> {
    if (this.#inParts.has(key)) return "long";
    const isQueue = key.startsWith(`${slotPrefix(this.#source.root, slot)}q:`);
    if (isQueue && (await this.#source.run<number>("llen", key)) > longQueue) return "long";
    const [ttlMs, value] = await Promise.all([
      this.#source.run<number>("pttl", key),
      this.#source.run<Buffer | null>("dumpBuffer", key),
    ]);
    return { slot, key, ttlMs: Math.max(0, ttlMs), value: value ?? undefined };
  }

  /** Its items leave at the head and arrive at the tail, and begin with growing numbers. */
  async #copyQueue(slot: number, key: string): Promise<void> {
    const gone = { slot, key, ttlMs: 0, value: undefined };
    if (!this.#inParts.has(key)) await this.#restore([gone]);
    for (;;) {
      const last = this.#inParts.get(key) ?? 0;
      const [first, ...items] = await this.#source.run(readListScript, key, last, partBytes);
      if (first === undefined) {
        this.#inParts.delete(key);
        return this.#restore([gone]);
      }
      const values = [this.#move.id, this.#attempt, slot, key, first, ...items];
      if ((await this.#target.run(appendListScript, arrivalsKey(this.#target.root), ...values)) === 0) {
        throw superseded();
      }
      this.#inParts.set(key, Number.parseInt(items.at(-1) ?? String(last), 10));
      if (bytesOf(items) < partBytes) return;
    }
  }

  async #restore(copies: readonly Copy[]): Promise<void> {
    let values: Argument[] = [];
    let bytes = 0;
    const send = async (): Promise<void> => {
      if (values.length === 0) return;
      const sent = [this.#move.id, this.#attempt, ...values];
      values = [];
      bytes = 0;
      if ((await this.#target.run(restoreScript, arrivalsKey(this.#target.root), ...sent)) === 0) throw superseded();
    };
    for (const { slot, key, ttlMs, value } of copies) {
      const size = key.length + (value?.length ?? 0);
      if (bytes + size > maxCallBytes) await send();
      values.push(slot, key, ttlMs, value ?? "");
      bytes += size;
    }
    await send();
  }
}

/** Whether a copy of the slots is complete at a cell, by whichever process. */
export async function isSealed(cell: RedisConnections, { id, slots }: Ends["move"]): Promise<boolean> {
  const states = await cell.run<(string | null)[]>("hmget", arrivalsKey(cell.root), ...slots);
  return states.every((state) => state?.startsWith(`${id} `) && state.endsWith(" sealed"));
}

/** What an aborted move has copied is not completed by any process. */
export async function endArrival(cell: RedisConnections, { id, slots }: Ends["move"]): Promise<void> {
  await cell.run(endScript, arrivalsKey(cell.root), id, ...slots);
}

/** Deletes the keys of slots at a cell that does not own them. */
export async function clearSlots(cell: RedisConnections, { id, slots }: Ends["move"]): Promise<void> {
  await forEachKey(cell, new Set(slots), async (keys) => {
    const values = keys.flatMap((key) => [movedSlot(cell.root, key) ?? 0, key]);
    if ((await cell.run(clearScript, arrivalsKey(cell.root), id, ...values)) === 0) throw superseded();
  });
}

async function forEachKey(
  cell: RedisConnections,
  slots: ReadonlySet<number>,
  work: (keys: readonly string[]) => Promise<void>,
): Promise<void> {
  let cursor = "0";
  do {
    const [next, found] = await cell.run<[string, string[]]>(
      "scan",
      ...[cursor, "MATCH", `${cell.root}:{[0-9]*`, "COUNT", scanCount],
    );
    cursor = next;
    const keys = found.filter((key) => {
      const slot = movedSlot(cell.root, key);
      return slot !== undefined && slots.has(slot);
    });
    if (keys.length > 0) await work(keys);
  } while (cursor !== "0");
}

/** The slot of a key that moves with it; undefined for other keys. The counter of a cell carries the tag of a slot, and stays. */
function movedSlot(root: string, key: string): number | undefined {
  if (!key.startsWith(`${root}:{`)) return undefined;
  const [, slot, rest = ""] = /^\{(\d+)\}:(.*)$/s.exec(key.slice(root.length + 1)) ?? [];
  return slot === undefined || /^queues:numbers(:|$)/.test(rest) ? undefined : Number(slot);
}

function superseded(): Error {
  return new Error("another attempt or a later move of the slots has begun");
}
