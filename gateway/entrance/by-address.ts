import { networkOf } from "../../shared/http/network.ts";

/** A value for each client address, for a bounded number of addresses. Pure. */
export class ByAddress<Value> {
  readonly #values = new Map<string, Value>();
  readonly #isOver: (value: Value, now: number) => boolean;
  readonly #onForgotten: (value: Value) => void;
  readonly #maxAddresses: number;

  /**
   * @param options.isOver whether a new value would be the same as this one.
   * @param options.maxAddresses past it, the oldest address is forgotten.
   */
  constructor(options: {
    isOver: (value: Value, now: number) => boolean;
    onForgotten?: (value: Value) => void;
    maxAddresses?: number;
  }) {
    this.#isOver = options.isOver;
    this.#onForgotten = options.onForgotten ?? (() => undefined);
    this.#maxAddresses = options.maxAddresses ?? 10_000;
  }

  of(address: string, now: number, create: () => Value): Value {
    const key = networkOf(address);
    const known = this.#values.get(key);
    if (known !== undefined && !this.#isOver(known, now)) return known;
    if (known !== undefined) this.#forget(key, known);
    this.#forgetSome(now);
    const value = create();
    this.#values.set(key, value);
    return value;
  }

  /** Two looks for each new address are enough to keep the map small. */
  #forgetSome(now: number): void {
    let looked = 0;
    for (const [key, value] of this.#values) {
      if (this.#isOver(value, now) || this.#values.size >= this.#maxAddresses) this.#forget(key, value);
      if (++looked === 2) return;
    }
  }

  #forget(key: string, value: Value): void {
    this.#values.delete(key);
    this.#onForgotten(value);
  }
}
