import type { RedisConnections } from "./connections.ts";

/**
 * Finds the cell, an independent Redis, that owns a channel, a user or a slot: `cells.of(name).run(script, …)`. The stores
 * reach Redis only through it. There is one cell; it owns every slot.
 */
export class Cells {
  readonly #cell: RedisConnections;

  /** The caller starts and stops the connections. */
  constructor(cell: RedisConnections) {
    this.#cell = cell;
  }

  /** @param _name of a channel, or the key of a user: what the slot is computed from. */
  of(_name: string): RedisConnections {
    return this.#cell;
  }

  ofSlot(_slot: number): RedisConnections {
    return this.#cell;
  }

  /** Holds what belongs to no slot: nodes, leases, documents. */
  get fleet(): RedisConnections {
    return this.#cell;
  }

  get all(): readonly RedisConnections[] {
    return [this.#cell];
  }
}
