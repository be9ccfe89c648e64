/** How the service of a schedule treats deliveries: faults change it for all of them, or for one item of a key. */
import type { SeededRandom } from "../../test/support/seeded-random.ts";
import type { Delivery } from "./items.ts";
import type { KeyLedger } from "./key-ledger.ts";
import type { Treatment } from "./receiver.ts";

const maxAnswerMs = 20;
/** Part of the batches of which the service takes the first items only. */
const partialPart = 0.3;

/** One item of a key that the service refuses. */
export interface FailingItem {
  readonly status: number;
  /** Undefined until a new item of the key has come. */
  number?: number;
  refusals: number;
}

export class ServiceBehaviour {
  /** Undefined: it works. */
  fault: Treatment | undefined;
  readonly #failing = new Map<string, FailingItem>();
  readonly #random: SeededRandom;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** The next new item of the key fails with this status until {@link heal}. */
  fail(key: string, status: number): FailingItem {
    const item: FailingItem = { status, refusals: 0 };
    this.#failing.set(key, item);
    return item;
  }

  heal(key: string): void {
    this.#failing.delete(key);
  }

  treat(delivery: Delivery, ledger: KeyLedger): Treatment {
    if (this.fault) return this.fault;
    const [first = 0] = delivery.numbers;
    const failing = this.#failing.get(ledger.key);
    if (failing) {
      if (delivery.attempt === 1) failing.number ??= first;
      if (failing.number === first) {
        failing.refusals++;
        return { kind: "refuse", status: failing.status };
      }
    }
    const whole = delivery.numbers.length;
    const count = whole > 1 && this.#random.next() < partialPart ? this.#random.between(1, whole - 1) : whole;
    return { kind: "take", count, afterMs: this.#random.between(0, maxAnswerMs) };
  }
}
