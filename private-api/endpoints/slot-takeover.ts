/** Takes slots, and loads the places that the log has for them: what this process remembers may not be what is queued. */
import type { Behind } from "./behind.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import type { HeldSlot, HeldSlots } from "./held-slots.ts";
import type { QueueHistories } from "./queue-histories.ts";
import type { StoredPlaces } from "./stored-places.ts";

/** Where nothing is queued, a loss of queues is noticed within this time. */
const checkEveryMs = 5_000;

export class SlotTakeover {
  readonly #slots: HeldSlots;
  readonly #places: StoredPlaces;
  readonly #behind: Behind;
  readonly #current: CurrentEndpoints;
  readonly #histories: QueueHistories;
  /** Slots whose places are not loaded yet. */
  #taken: readonly HeldSlot[] = [];
  #renewing: Promise<void> | undefined;
  /** By `performance.now()` */
  #checkAt = 0;

  constructor(options: {
    slots: HeldSlots;
    places: StoredPlaces;
    behind: Behind;
    current: CurrentEndpoints;
    histories: QueueHistories;
  }) {
    this.#slots = options.slots;
    this.#places = options.places;
    this.#behind = options.behind;
    this.#current = options.current;
    this.#histories = options.histories;
  }

  /** {@link step} has something to do at once. */
  get isDue(): boolean {
    return this.#slots.hasLost || this.#taken.length > 0;
  }

  isLoaded(slot: number): boolean {
    return !this.#taken.some(({ lease }) => lease.slot === slot);
  }

  /** Queues may have lost items. */
  checkSoon(): void {
    this.#checkAt = 0;
  }

  /** One at a time. @throws TidegateError */
  async renew(): Promise<void> {
    this.#renewing ??= this.#renewOnce().finally(() => {
      this.#renewing = undefined;
    });
    await this.#renewing;
  }

  /** Between two steps of the reader. @returns the slots whose places are loaded now. */
  async step(): Promise<readonly number[]> {
    if (this.#slots.hasLost) await this.renew();
    // Before places are loaded: what they say was queued is in queues that have not lost it since.
    if (this.#taken.length > 0 || performance.now() >= this.#checkAt) await this.#checkQueues();
    if (this.#slots.hasLost) await this.renew();
    return this.#taken.length > 0 ? this.#load() : [];
  }

  async #renewOnce(): Promise<void> {
    const taken = await this.#slots.renew();
    // `#taken` is read after the await: slots may have been loaded meanwhile.
    this.#taken = [...this.#taken, ...taken];
  }

  /** If queues may have lost items, gives up all slots, so that their places are loaded again. */
  async #checkQueues(): Promise<void> {
    this.#checkAt = performance.now() + checkEveryMs;
    if (!(await this.#histories.haveChanged())) return;
    for (const [slot, held] of [...this.#slots.all]) if (this.isLoaded(slot)) this.#slots.lose(held);
  }

  async #load(): Promise<readonly number[]> {
    const taken = this.#taken.filter((held) => this.#slots.all.get(held.lease.slot) === held);
    const slots = taken.map(({ lease }) => lease.slot);
    // Drops what a step noted that began under the previous lease.
    for (const slot of slots) this.#behind.lose(slot);
    await this.#current.catchUp();
    await this.#places.load(slots);
    await this.#places.loadAllBehind(slots, this.#current.index);
    this.#taken = this.#taken.filter((held) => !taken.includes(held) && this.#slots.all.get(held.lease.slot) === held);
    return slots;
  }
}
