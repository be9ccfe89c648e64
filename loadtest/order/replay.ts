/** Goes through the deliveries of a key in the order in which they came, and finds what breaks the contract. Pure. */
import { leaseMs } from "../../shared/queues/contract.ts";
import { isWithin, lossMarginMs, type LossWindow } from "../checker/fault-runner.ts";
import type { Delivery, Item } from "./items.ts";
import type { Violation, ViolationKind } from "./violations.ts";

/** Half a lease: the time between the claim and the arrival of its request counts against the lease. */
const freshMs = leaseMs / 2;

/** The way of a key through its items; `low` grows. What a declared loss undid is taken back. */
type Passed = { low: number; number: number; at: number }[];

export class Replay {
  readonly #key: string;
  readonly #deliveries: readonly Delivery[];
  readonly #items: ReadonlyMap<number, Item>;
  readonly #lossWindows: readonly LossWindow[];
  readonly #found: Violation[] = [];
  readonly #fences = new Set<string>();
  /** By item number: the id and sequence that are known of it. */
  readonly #known = new Map<number, { id?: string; sequence?: string; taken: boolean }>();
  /** Sequences of first items, the newest last. */
  readonly #sequences: string[] = [];
  /** The last delivery carried several items: only the sequence of the first one is known. */
  #lastWasBatch = false;
  /** Items that have come, with the first time of each. */
  readonly #came = new Map<number, number>();
  /** All items, and the first ones of each delivery: what a delivery begins with, the key has reached. */
  readonly #passed: Passed = [];
  readonly #reached: Passed = [];
  #repeats = 0;
  #replayed = 0;

  constructor(
    key: string,
    deliveries: readonly Delivery[],
    items: ReadonlyMap<number, Item>,
    lossWindows: readonly LossWindow[],
  ) {
    this.#key = key;
    this.#deliveries = deliveries;
    this.#items = items;
    this.#lossWindows = lossWindows;
  }

  run(): { found: Violation[]; repeats: number; replayed: number } {
    let before: Delivery | undefined;
    for (const delivery of this.#deliveries) {
      if (this.#fences.has(delivery.fence)) this.#find("fenceReused", `fence ${short(delivery.fence)}`);
      this.#fences.add(delivery.fence);
      if (delivery.isStale) continue;
      if (before) this.#checkOverlap(before, delivery);
      this.#checkSequence(delivery);
      // Of a batch, what the service left comes again with what follows.
      const reached = delivery.numbers.slice(0, Math.max(1, delivery.taken ?? 0));
      for (const number of reached) this.#checkOrder(number, delivery);
      for (const number of reached) this.#came.set(number, this.#came.get(number) ?? delivery.at);
      before = delivery;
    }
    return { found: this.#found, repeats: this.#repeats, replayed: this.#replayed };
  }

  /**
   * A lease that was not extended may have ended while its request was under way. A caller that gives up closes its connection
   * first, but the service may see that after the next request.
   */
  #checkOverlap(before: Delivery, delivery: Delivery): void {
    const isOver = before.endedAt !== undefined && (before.endedAt <= delivery.at || !before.answered);
    if (isOver || delivery.at - before.at > freshMs || this.#mayBeLost(before.at)) return;
    const ms = (delivery.at - before.at).toFixed(0);
    this.#find("overtaken", `[${delivery.numbers.join(" ")}] ${ms} ms after [${before.numbers.join(" ")}]`);
  }

  #checkOrder(number: number, delivery: Delivery): void {
    const item = this.#items.get(number);
    if (!item) return;
    const known = this.#known.get(number);
    if (known?.taken) this.#repeats++;
    const isFirst = number === delivery.numbers[0];
    // A delivery that was not settled comes again as a whole.
    const ways = item.deadLetter ? [] : [...(isFirst ? [this.#reached] : []), ...(known ? [] : [this.#passed])];
    const [later] = ways.flatMap((way) => this.#advance(way, item, number, delivery.at) ?? []);
    if (later !== undefined) this.#find("inverted", `item ${number} after item ${later}`);
    const taken = delivery.numbers.indexOf(number) < (delivery.taken ?? 0);
    if (isFirst) this.#checkName(item, number, delivery);
    this.#known.set(number, {
      ...known,
      ...(isFirst && { id: delivery.id, sequence: delivery.sequence }),
      taken: taken || (known?.taken ?? false),
    });
  }

  /** @returns a later item that the key had passed, where no declared loss explains it. */
  #advance(way: Passed, { low, high }: Item, number: number, at: number): number | undefined {
    const passed = way.findLastIndex((other) => other.low <= high) + 1;
    const later = way[passed];
    const isExplained = later !== undefined && this.#mayBeLost(later.at);
    if (isExplained) {
      this.#replayed++;
      way.length = passed;
    }
    if (low > (way.at(-1)?.low ?? 0)) way.push({ low, number, at });
    return isExplained ? undefined : later?.number;
  }

  #checkName(item: Item, number: number, { id, sequence, at }: Delivery): void {
    const known = this.#known.get(number);
    const expected = known?.id ?? item.accepted?.id;
    if (expected !== undefined && expected !== id) this.#find("changed", `item ${number} is ${id} and ${expected}`);
    if (known?.sequence === undefined || known.sequence === sequence || item.deadLetter) return;
    // Where the item and its id were lost, its client has stored it once more.
    if (this.#mayBeLost(this.#came.get(number) ?? at)) return;
    this.#find("changed", `item ${number} has the sequences ${short(known.sequence)} and ${short(sequence)}`);
  }

  #checkSequence({ numbers, sequence, previous, at }: Delivery): void {
    const newest = this.#sequences.at(-1);
    const isNew = !numbers.some((number) => this.#came.has(number));
    if (isNew && newest !== undefined && sequence <= newest) {
      this.#find("sequenceBroken", `item ${numbers[0]} has ${short(sequence)} after ${short(newest)}`);
    }
    if (isNew && previous !== undefined && newest !== undefined && !this.#lastWasBatch && !this.#mayBeLostBefore(at)) {
      if (previous !== newest) {
        this.#find("previousBroken", `item ${numbers[0]} names ${short(previous)}, not ${short(newest)}`);
      }
    }
    if (newest === undefined || sequence > newest) this.#sequences.push(sequence);
    this.#lastWasBatch = numbers.length > 1;
  }

  #mayBeLost(at: number): boolean {
    return isWithin(this.#lossWindows, at);
  }

  /** A loss before that time may have taken the item that came last. */
  #mayBeLostBefore(at: number): boolean {
    return this.#lossWindows.some(({ from }) => from - lossMarginMs <= at);
  }

  #find(kind: ViolationKind, detail: string): void {
    this.#found.push({ kind, key: this.#key, detail });
  }
}

/** Without leading zeros. */
export function short(number: string | undefined): string {
  return number?.replace(/^0+(?=.)/, "") ?? "nothing";
}
