/** The workers of a dispatcher: each class has its share of them, and retries have a part of that share. Pure. */
import type { Lane } from "../../shared/queues/contract.ts";

/** Of a class's workers, for retries: first attempts do not wait for services that fail. */
const retryPart = 1 / 4;

export class Workers {
  readonly #total: number;
  readonly #shares: () => ReadonlyMap<string, number>;
  readonly #only: ReadonlySet<string> | undefined;
  readonly #busy = new Map<string, number>();

  /**
   * @param options.shares weights by class, as the rules have them
   * @param options.only the classes that this process works on; undefined: all
   */
  constructor(options: { total: number; shares: () => ReadonlyMap<string, number>; only?: ReadonlySet<string> }) {
    this.#total = options.total;
    this.#shares = options.shares;
    this.#only = options.only;
  }

  get busy(): number {
    return [...this.#busy.values()].reduce((sum, count) => sum + count, 0);
  }

  free(className: string, attempt: Lane["attempt"]): number {
    return this.#places(className, attempt) - (this.#busy.get(busyKey(className, attempt)) ?? 0);
  }

  take(className: string, attempt: Lane["attempt"]): void {
    const key = busyKey(className, attempt);
    this.#busy.set(key, (this.#busy.get(key) ?? 0) + 1);
  }

  release(className: string, attempt: Lane["attempt"]): void {
    const key = busyKey(className, attempt);
    const left = (this.#busy.get(key) ?? 0) - 1;
    if (left > 0) this.#busy.set(key, left);
    else this.#busy.delete(key);
  }

  /** At least one each, so that no class stands still. */
  #places(className: string, attempt: Lane["attempt"]): number {
    if (this.#only && !this.#only.has(className)) return 0;
    const shares = [...this.#shares()].filter(([name]) => this.#only?.has(name) ?? true);
    const sum = shares.reduce((total, [, share]) => total + share, 0);
    // A class that the rules no longer have still has items: it is worked on with the smallest share.
    const own = new Map(shares).get(className) ?? 1;
    const places = Math.max(2, Math.floor((this.#total * own) / Math.max(sum, own)));
    const retries = Math.max(1, Math.floor(places * retryPart));
    return attempt === "retry" ? retries : places - retries;
  }
}

function busyKey(className: string, attempt: Lane["attempt"]): string {
  return `${attempt}:${className}`;
}
