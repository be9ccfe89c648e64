/** What generators draw with: everything follows from one text, the seed and number of an input. */
import { SeededRandom } from "../../test/support/seeded-random.ts";

export class Dice extends SeededRandom {
  /** @param probability from 0 to 1. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A whole number, both ends included; each order of magnitude is as likely as the others. */
  magnitude(from: number, to: number): number {
    return Math.round(Math.exp(Math.log(from) + this.next() * (Math.log(to) - Math.log(from))));
  }

  /** One of the makers, as often as its weight says; only that one is called. */
  weighted<T>(makers: readonly (readonly [weight: number, make: () => T])[]): T {
    let left = this.next() * makers.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, make] of makers) {
      left -= weight;
      if (left < 0) return make();
    }
    return this.pick(makers)[1]();
  }

  list<T>(length: number, make: (index: number) => T): T[] {
    return Array.from({ length }, (_, index) => make(index));
  }
}
