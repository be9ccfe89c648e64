/** Of what is under way, the part that is enough at once. */
const enough = 1 / 2;
const maxGatherMs = 2;

/**
 * Acts once on what happens at about the same time: as long as each turn of the event loop brings more, it waits for the next turn. It
 * never waits while there is nothing else to do.
 */
export class Gathering {
  readonly #act: () => void;
  readonly #underWay: () => number;
  #gathered = 0;
  #since = 0;

  /** @param underWay deliveries: half as many are acted on at once */
  constructor(act: () => void, underWay: () => number) {
    this.#act = act;
    this.#underWay = underWay;
  }

  add(): void {
    this.#gathered++;
    if (this.#gathered > 1) return;
    this.#since = performance.now();
    setImmediate(() => this.#turn(0));
  }

  #turn(before: number): void {
    const gathered = this.#gathered;
    const isGrowing = gathered > before && gathered < this.#underWay() * enough;
    if (isGrowing && performance.now() - this.#since < maxGatherMs) {
      setImmediate(() => this.#turn(gathered));
      return;
    }
    this.#gathered = 0;
    this.#act();
  }
}
