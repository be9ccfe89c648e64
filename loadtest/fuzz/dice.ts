/** The random draws of the generators: a seed and the number of an input determine all of them. */
import { SeededRandom } from "../../test/support/seeded-random.ts";

export class Dice extends SeededRandom {
  /** @param probability from 0 to 1. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A whole number, both ends included; every order of magnitude is equally likely. */
  magnitude(from: number, to: number): number {
    return Math.round(Math.exp(Math.log(from) + this.next() * (Math.log(to) - Math.log(from))));
  }

  /** Calls one of the makers, chosen by weight. */
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
