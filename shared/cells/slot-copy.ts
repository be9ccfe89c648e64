/** Copies the keys of slots from one cell to another while the source is in use. */
import { randomUUID } from "node:crypto";
import { slotTag } from "../channels/keys.ts";
import { leaseMs } from "../queues/contract.ts";
import { scriptKeys, slotPrefix } from "../queues/keys.ts";
import { numbersScript } from "../queues/left-places.ts";
import type { SlotMove } from "../redis/cell-map.ts";
import type { RedisConnections } from "../redis/connections.ts";
import type { KeyChanges } from "../redis/key-changes.ts";
import { script } from "../redis/scripts.ts";
import { Arrival, arrivalKeys, type KeyCopy, superseded } from "./arrival.ts";
import { arrivalKey, movedSlot } from "./keys.ts";
import { LongCopies } from "./long-copies.ts";
import { replicated } from "./replicated.ts";

/** Names that Redis looks at in one SCAN: about 0.3 ms. */
const scanCount = 1_000;
/** Keys whose copies are under way at once. */
const keysAtOnce = 100;
/** Keys that are copied in parts at once. Calls of this process to the target share one bound on their bytes. */
const longAtOnce = 8;
/** With so few changed keys the slots are closed. */
const fewChanged = 50;
/** What changes in a round that takes less is copied soon enough while the slots are closed, however many keys change all the time. */
const shortRoundMs = 500;
/** A short round that is not shorter than this part of the one before it leaves what the next one would leave. */
const shrinking = 0.8;
/** Rounds of copying what has changed in the round before. */
const maxRounds = 30;
/** Longer than slots stay closed. */
const markerMs = 3_000;

const beginScript = script<0 | 1>(new URL("begin-arrival.lua", import.meta.url), 2);
const sealScript = script<0 | 1>(new URL("seal-arrival.lua", import.meta.url), 2);
const endScript = script(new URL("end-arrival.lua", import.meta.url), 2);
const clearScript = script<0 | 1>(new URL("clear-keys.lua", import.meta.url), 2);

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
  readonly #arrival: Arrival;
  readonly #long: LongCopies;
  /** One for each server that has some of the slots. */
  readonly #changes: readonly KeyChanges[];
  #copied = 0;

  constructor({ source, target, move }: Ends) {
    this.#source = source;
    this.#target = target;
    this.#move = move;
    this.#slots = new Set(move.slots);
    this.#arrival = new Arrival(target, move.id);
    this.#long = new LongCopies({ source, arrival: this.#arrival });
    this.#changes = source.changesOf(move.slots.map((slot) => `${slotTag(source.root, slot)}:`));
  }

  /** Keys so far, repetitions included. */
  get copied(): number {
    return this.#copied;
  }

  /**
   * Copies everything, then what has changed meanwhile, until little is left.
   * @param version of the map in which the slots are to be copied. @throws where they were copied by a newer one: nothing was changed then
   */
  async copyWhileOpen(version: number): Promise<void> {
    await Promise.all(this.#move.slots.map(async (slot) => this.#arrival.run(beginScript, slot, version)));
    await forEachKeyBySlot(this.#target, this.#slots, async (slot, keys) =>
      this.#arrival.run(clearScript, slot, ...keys),
    );
    await Promise.all(this.#changes.map(async (changes) => changes.start()));
    await forEachKey(this.#source, this.#slots, async (keys) => this.#copy(keys));
    let tookMs = Infinity;
    for (let round = 0; round < maxRounds; round++) {
      const before = tookMs;
      const begunAt = performance.now();
      await this.#copyChanged();
      tookMs = performance.now() - begunAt;
      const changed = this.#changes.reduce((sum, { count }) => sum + count, 0);
      if (tookMs <= shortRoundMs && (changed <= fewChanged || tookMs > before * shrinking)) return;
    }
    throw new Error("keys of the slots change faster than they can be copied");
  }

  /**
   * Copies the rest. The source must take no more calls of the slots. Nothing can be copied after it. Calls of the slots wait meanwhile, so
   * what does not depend on each other is done at once.
   * @param version of the map in which the slots are closed
   */
  async finish(version: number): Promise<void> {
    // A failover of the source must keep its fence.
    await Promise.all([this.#copyRest(), this.#continueNumbers(), replicated(this.#source)]);
    await replicated(this.#target);
    const sealed = this.#move.slots.map(async (slot) =>
      this.#arrival.run(sealScript, slot, version, leaseMs, `${slotPrefix(this.#target.root, slot)}leases`),
    );
    await Promise.all(sealed);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#changes.map(async (changes) => changes.stop()));
  }

  async #copyRest(): Promise<void> {
    await this.#receiveChanges();
    await this.#copyChanged();
  }

  async #continueNumbers(): Promise<void> {
    await this.#numbersAt(this.#target, await this.#numbersAt(this.#source, 0));
  }

  /** Lets the numbers of a cell continue past one. @returns the last that it gave in any of the slots */
  async #numbersAt(cell: RedisConnections, past: number): Promise<number> {
    const { slots } = this.#move;
    const counters = cell.spansSlots ? slots.slice(0, 1) : slots;
    const given = counters.map(async (slot) => cell.run(numbersScript, ...scriptKeys(cell, slot), past));
    return Math.max(...(await Promise.all(given)).map(Number));
  }

  /**
   * Every change before now is known. Redis reports changes of one prefix in order, so each slot has a marker. No other attempt writes it,
   * nor does it expire meanwhile: that would be reported as well, ahead of changes that this process has not read yet.
   */
  async #receiveChanges(): Promise<void> {
    const marked = randomUUID();
    const markers = this.#move.slots.map((slot) => `${slotTag(this.#source.root, slot)}:moving:${marked}`);
    const arrivals = markers.map(async (marker) =>
      this.#changes.find((changes) => changes.covers(marker))?.arrival(marker, markerMs),
    );
    const writes = markers.map(async (marker) => this.#source.run("set", marker, "1", "PX", markerMs));
    await Promise.all([...arrivals, ...writes]);
  }

  async #copyChanged(): Promise<void> {
    await this.#copy(this.#changes.flatMap((changes) => [...changes.take()]));
  }

  async #copy(keys: readonly string[]): Promise<void> {
    const wanted = keys.flatMap((key) => {
      const slot = movedSlot(this.#source.root, key);
      return slot !== undefined && this.#slots.has(slot) ? [{ slot, key }] : [];
    });
    for (let at = 0; at < wanted.length; at += keysAtOnce) {
      const part = wanted.slice(at, at + keysAtOnce);
      const copies = await Promise.all(part.map(async ({ slot, key }) => this.#read(slot, key)));
      await this.#arrival.restore(copies.filter((copy) => copy !== "long"));
      const long = part.filter((_, index) => copies[index] === "long");
      for (let first = 0; first < long.length; first += longAtOnce) {
        const some = long.slice(first, first + longAtOnce);
        await Promise.all(some.map(async ({ slot, key }) => this.#long.copy(slot, key)));
      }
      this.#copied += part.length;
    }
  }

  async #read(slot: number, key: string): Promise<KeyCopy | "long"> {
    if (await this.#long.isLong(slot, key)) return "long";
    const [ttlMs, value] = await Promise.all([
      this.#source.run<number>("pttl", key),
      this.#source.run<Buffer | null>("dumpBuffer", key),
    ]);
    // Redis has a key until the end of its last millisecond, in which PTTL is 0; it restores with 0 what does not expire.
    return { slot, key, ttlMs: ttlMs < 0 ? 0 : Math.max(1, ttlMs), value: value ?? undefined };
  }
}

/** Whether a copy of the slots is complete at a cell, by whichever process. */
export async function isSealed(cell: RedisConnections, { id, slots }: Ends["move"]): Promise<boolean> {
  const states = slots.map(async (slot) => cell.run<string | null>("hget", arrivalKey(cell.root, slot), "state"));
  return (await Promise.all(states)).every((state) => state?.startsWith(`${id} `) && state.endsWith(" sealed"));
}

/** What an aborted move has copied is not completed by any process. @param version of the map in which it is aborted */
export async function endArrival(cell: RedisConnections, { id, slots }: Ends["move"], version: number): Promise<void> {
  await Promise.all(slots.map(async (slot) => cell.run(endScript, ...arrivalKeys(cell.root, slot), id, version)));
}

/** Deletes the keys of slots that have left a cell, or whose move there is aborted. */
export async function clearSlots(cell: RedisConnections, { id, slots }: Ends["move"]): Promise<void> {
  const noAttempt = "";
  await forEachKeyBySlot(cell, new Set(slots), async (slot, keys) => {
    if ((await cell.run(clearScript, ...arrivalKeys(cell.root, slot), id, noAttempt, ...keys)) === 0)
      throw superseded();
  });
}

async function forEachKeyBySlot(
  cell: RedisConnections,
  slots: ReadonlySet<number>,
  work: (slot: number, keys: readonly string[]) => Promise<void>,
): Promise<void> {
  await forEachKey(cell, slots, async (keys) => {
    const bySlot = Map.groupBy(keys, (key) => movedSlot(cell.root, key) ?? 0);
    await Promise.all([...bySlot].map(async ([slot, own]) => work(slot, own)));
  });
}

async function forEachKey(
  cell: RedisConnections,
  slots: ReadonlySet<number>,
  work: (keys: readonly string[]) => Promise<void>,
): Promise<void> {
  const matching = ["MATCH", `${cell.root}:{[0-9]*`, "COUNT", scanCount];
  for (const primary of cell.primaries) {
    let cursor = "0";
    do {
      const [next, found] = await cell.runAt<[string, string[]]>(primary, "scan", cursor, ...matching);
      cursor = next;
      const keys = found.filter((key) => {
        const slot = movedSlot(cell.root, key);
        return slot !== undefined && slots.has(slot);
      });
      if (keys.length > 0) await work(keys);
    } while (cursor !== "0");
  }
}
