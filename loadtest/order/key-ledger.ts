/** What was emitted for one ordering key, what the service got of it, and the verdict. Pure. */
import { isWithin, type LossWindow } from "../checker/fault-runner.ts";
import type { Delivery, Item } from "./items.ts";
import { Replay, short } from "./replay.ts";
import type { Violation } from "./violations.ts";

export interface KeyVerdict {
  readonly key: string;
  readonly emitted: number;
  readonly accepted: number;
  readonly requests: number;
  /** Deliveries of items that the service had taken before. */
  readonly repeats: number;
  /** Of those, items that came again behind later ones, as a declared loss of settlements explains. */
  readonly replayed: number;
  readonly staleFences: number;
  readonly deadLetters: number;
  /** Acknowledged items that a declared loss took. */
  readonly gone: number;
  readonly violations: readonly Violation[];
}

export class KeyLedger {
  readonly key: string;
  readonly event: string;
  readonly deliveries: Delivery[] = [];
  readonly #items = new Map<number, Item>();
  #newestFence = "";

  constructor(key: string, event: string) {
    this.key = key;
    this.event = event;
  }

  get emitted(): number {
    return this.#items.size;
  }

  /** Numbers of items that are emitted together, without waiting for acks. */
  emit(count: number): number[] {
    const numbers = Array.from({ length: count }, (_, at) => this.#items.size + at + 1);
    for (const number of numbers)
      this.#items.set(number, { low: number, high: number, taken: false, deadLetter: false });
    return numbers;
  }

  /** The item has to be emitted again: it may come anywhere among those of its burst. */
  emittedAgain(number: number, burst: readonly number[]): void {
    const item = this.#item(number);
    item.low = burst[0] ?? number;
    item.high = burst.at(-1) ?? number;
  }

  accepted(number: number, id: string | undefined, at: number): void {
    this.#item(number).accepted ??= { at, id };
  }

  deadLetter(number: number): void {
    this.#item(number).deadLetter = true;
  }

  /** @returns the delivery, stale where a larger fence came before. */
  arrived(delivery: Omit<Delivery, "isStale">): Delivery {
    const arrived = { ...delivery, isStale: delivery.fence < this.#newestFence };
    if (!arrived.isStale) this.#newestFence = delivery.fence;
    this.deliveries.push(arrived);
    return arrived;
  }

  /** The service took the first `count` items of the delivery. */
  taken(delivery: Delivery, count: number): void {
    delivery.taken = count;
    for (const number of delivery.numbers.slice(0, count)) this.#item(number).taken = true;
  }

  isAccepted(number: number): boolean {
    return this.#items.get(number)?.accepted !== undefined;
  }

  isTaken(number: number): boolean {
    return this.#items.get(number)?.taken ?? false;
  }

  /** Acknowledged items that the service has not taken. */
  missing(): number[] {
    return [...this.#items].flatMap(([number, { accepted, taken }]) => (accepted && !taken ? [number] : []));
  }

  /** Of {@link missing}, those that no declared loss explains. */
  unexplained(lossWindows: readonly LossWindow[]): number[] {
    return this.missing().filter((number) => !isWithin(lossWindows, this.#item(number).accepted?.at ?? 0));
  }

  judge(lossWindows: readonly LossWindow[]): KeyVerdict {
    const { found, repeats, replayed } = new Replay(this.key, this.deliveries, this.#items, lossWindows).run();
    const lost = this.unexplained(lossWindows);
    for (const number of lost) {
      const deliveries = this.deliveries.filter(({ numbers }) => numbers.includes(number)).length;
      const at = this.#item(number).accepted?.at.toFixed(0);
      found.push({
        kind: "lost",
        key: this.key,
        detail: `item ${number} of ${this.emitted}, acknowledged at ${at}, delivered ${deliveries} times`,
      });
    }
    const items = [...this.#items.values()];
    return {
      key: this.key,
      emitted: items.length,
      accepted: items.filter(({ accepted }) => accepted).length,
      requests: this.deliveries.length,
      repeats,
      replayed,
      staleFences: this.deliveries.filter(({ isStale }) => isStale).length,
      deadLetters: items.filter(({ deadLetter }) => deadLetter).length,
      gone: this.missing().length - lost.length,
      violations: found,
    };
  }

  /** Deliveries, one a line. */
  trace(): string[] {
    return this.deliveries.map(({ at, numbers, sequence, previous, fence, attempt, isStale, endedAt, taken }) => {
      const outcome = endedAt === undefined ? "open" : `${taken ?? 0} taken after ${(endedAt - at).toFixed(0)} ms`;
      return `${at.toFixed(0)} [${numbers.join(" ")}] sequence ${short(sequence)} after ${short(previous)} fence ${short(fence)} attempt ${attempt}${isStale ? " STALE" : ""}: ${outcome}`;
    });
  }

  #item(number: number): Item {
    const item = this.#items.get(number);
    if (!item) throw new Error(`item ${number} of ${this.key} was never emitted`);
    return item;
  }
}
