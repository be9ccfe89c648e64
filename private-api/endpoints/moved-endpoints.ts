/** Endpoints that were moved in the log: nothing is queued for one before its new places are read. */
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Behind } from "./behind.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import type { StoredPlaces } from "./stored-places.ts";

export class MovedEndpoints {
  readonly #current: Pick<CurrentEndpoints, "index">;
  readonly #places: Pick<StoredPlaces, "loadBehind">;
  readonly #behind: Behind;
  /** By endpoint. */
  readonly #generations = new Map<string, number>();
  /** Their places are not read yet. */
  readonly #moved = new Set<string>();

  constructor(options: {
    current: Pick<CurrentEndpoints, "index">;
    places: Pick<StoredPlaces, "loadBehind">;
    behind: Behind;
  }) {
    this.#current = options.current;
    this.#places = options.places;
    this.#behind = options.behind;
  }

  get isEmpty(): boolean {
    return this.#moved.size === 0;
  }

  /** Its places are not read yet. */
  has(id: string): boolean {
    return this.#moved.has(id);
  }

  /** Places of endpoints that are known from the start are read with the slots. */
  start(): void {
    for (const { endpoint, generation } of this.#current.index.all) this.#generations.set(endpoint.id, generation);
  }

  /** An endpoint has changed; undefined: it is gone. */
  note(id: string, stored: StoredEndpoint | undefined): void {
    if (!stored) {
      this.#generations.delete(id);
      this.#moved.delete(id);
      return;
    }
    if (stored.generation !== (this.#generations.get(id) ?? 0)) this.#moved.add(id);
    this.#generations.set(id, stored.generation);
  }

  /** Resolves once the places of all moved endpoints are read, including those that move meanwhile. */
  async load(): Promise<void> {
    while (this.#moved.size > 0) {
      const moved = [...this.#moved].flatMap((id) => this.#current.index.get(id) ?? []);
      for (const { endpoint } of moved) this.#behind.forget(endpoint.id);
      await this.#places.loadBehind(moved);
      for (const { endpoint, generation } of moved) {
        if (this.#generations.get(endpoint.id) === generation) this.#moved.delete(endpoint.id);
      }
    }
  }
}
