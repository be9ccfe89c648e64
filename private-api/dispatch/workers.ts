/** The workers of a dispatcher: each class has its share of them, and retries have a part of that share. Pure. */
import type { Lane } from "../../shared/queues/contract.ts";
import { Occupancy } from "./occupancy.ts";

/** The part of a class's workers that does retries, so that first attempts do not wait for services that fail. */
const retryPart = 1 / 4;

const attempts = ["first", "retry"] as const satisfies readonly Lane["attempt"][];

type Counts = Record<Lane["attempt"], number>;
type Busy = Record<Lane["attempt"], Occupancy>;
type Classes = ReadonlyMap<string, { readonly share: number }>;

export class Workers {
  readonly #total: number;
  readonly #classes: () => Classes;
  readonly #only: ReadonlySet<string> | undefined;
  /** By class. {@link inUse} removes classes without a busy worker. */
  readonly #busy = new Map<string, Busy>();
  /** The classes that the places were computed for. */
  #known: Classes | undefined;
  #sum = 0;
  readonly #places = new Map<string, Counts>();

  /**
   * @param options.classes of the rules in force, with their weights. MUST return another map once the rules change
   * @param options.only the classes that this process works on; undefined: all
   */
  constructor(options: { total: number; classes: () => Classes; only?: ReadonlySet<string> }) {
    this.#total = options.total;
    this.#classes = options.classes;
    this.#only = options.only;
  }

  /** All of them, busy ones too. */
  count(className: string, attempt: Lane["attempt"]): number {
    return this.#placesOf(className)[attempt];
  }

  free(className: string, attempt: Lane["attempt"]): number {
    return this.#placesOf(className)[attempt] - (this.#busy.get(className)?.[attempt].taken ?? 0);
  }

  take(className: string, attempt: Lane["attempt"], nowMs: number): void {
    let busy = this.#busy.get(className);
    if (!busy) {
      busy = { first: new Occupancy(nowMs), retry: new Occupancy(nowMs) };
      this.#busy.set(className, busy);
    }
    busy[attempt].change(1, nowMs);
  }

  release(className: string, attempt: Lane["attempt"], nowMs: number): void {
    this.#busy.get(className)?.[attempt].change(-1, nowMs);
  }

  /** The largest mean share of busy workers since the last call, of any class. First attempts and retries count separately. */
  inUse(nowMs: number): number {
    let most = 0;
    for (const [name, busy] of this.#busy) {
      const places = this.#placesOf(name);
      const shares = attempts.map((attempt) => busy[attempt].mean(nowMs) / Math.max(1, places[attempt]));
      most = Math.max(most, ...shares);
      if (busy.first.taken + busy.retry.taken === 0) this.#busy.delete(name);
    }
    return most;
  }

  #placesOf(className: string): Counts {
    const classes = this.#classes();
    if (classes !== this.#known) this.#readShares(classes);
    const known = this.#places.get(className);
    if (known) return known;
    if (this.#only && !this.#only.has(className)) return none;
    // A class that the rules no longer have still has items: it is worked on with the smallest share.
    return this.#divide(1);
  }

  #readShares(classes: Classes): void {
    this.#known = classes;
    const own = [...classes].filter(([name]) => this.#only?.has(name) ?? true);
    this.#sum = own.reduce((total, [, { share }]) => total + share, 0);
    this.#places.clear();
    for (const [name, { share }] of own) this.#places.set(name, this.#divide(share));
  }

  /** At least one each, so that no class stands still. */
  #divide(share: number): Counts {
    const places = Math.max(2, Math.floor((this.#total * share) / Math.max(this.#sum, share)));
    const retry = Math.max(1, Math.floor(places * retryPart));
    return { first: places - retry, retry };
  }
}

const none: Counts = { first: 0, retry: 0 };
