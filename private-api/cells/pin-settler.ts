import { changeMap } from "../../shared/cells/change-map.ts";
import { replicated } from "../../shared/cells/replicated.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { dedupeMs } from "../../shared/queues/contract.ts";
import { continueNumbers, countLeft, forgetLeft } from "../../shared/queues/left-places.ts";
import type { TenantPin, TenantPlace } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { withoutOldest } from "./plan-pins.ts";

const lookMs = 1_000;

/**
 * Removes a place of a tenant's queues from the map of cells once they are all in newer places, and the ids of their items are
 * forgotten. Every private API does: each step can be repeated, and the last one compares the version of the map.
 */
export class PinSettler implements Service {
  readonly #cells: Cells;
  readonly #maps: CellMaps;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #afterMs: number;
  readonly #now: () => number;
  /**
   * The oldest places of tenants, by version and tenant, and when this process first found each of them empty, by `performance.now()`: clocks of
   * processes may be hours apart. No item is stored there after that.
   */
  readonly #emptySince = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> | undefined;

  /**
   * @param options.afterMs the time for which ids of items are known: shorter in tests
   * @param options.now as `performance.now()`: another clock in tests
   */
  constructor(options: {
    cells: Cells;
    maps: CellMaps;
    errors: ContainedErrors;
    logger: Logger;
    afterMs?: number;
    now?: () => number;
  }) {
    this.#cells = options.cells;
    this.#maps = options.maps;
    this.#errors = options.errors;
    this.#logger = options.logger;
    this.#afterMs = options.afterMs ?? dedupeMs;
    this.#now = options.now ?? (() => performance.now());
  }

  async start(): Promise<void> {
    if (this.#cells.isRouted) this.#timer = this.#errors.every(lookMs, () => this.#look());
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#working;
  }

  /** One at a time. */
  #look(): Promise<void> {
    this.#working ??= this.#settleAll().finally(() => (this.#working = undefined));
    return this.#working;
  }

  async #settleAll(): Promise<void> {
    const { pins } = this.#maps.map;
    const names = new Set([...pins].map(([tenant, [oldest]]) => nameOf(tenant, oldest)));
    for (const name of this.#emptySince.keys()) if (!names.has(name)) this.#emptySince.delete(name);
    for (const [tenant, pin] of pins) {
      const [oldest, next] = pin;
      const emptySince = this.#emptySince.get(nameOf(tenant, oldest));
      if (!next || (emptySince !== undefined && this.#now() < emptySince + this.#afterMs)) continue;
      try {
        await this.#settle(tenant, pin, oldest);
      } catch (error) {
        if (!(error instanceof TidegateError)) throw error;
        this.#logger.debug({ err: error, tenant }, "a place of a tenant cannot be left yet");
      }
    }
  }

  async #settle(tenant: string, pin: TenantPin, oldest: TenantPlace): Promise<void> {
    const left = slotsOf(oldest);
    const mark = { tenant, since: pin.at(-1)?.since ?? 0 };
    const name = nameOf(tenant, oldest);
    const count = await countLeft(this.#cells, left, mark);
    // It says nothing new where not all of the slots can be reached.
    if (count === undefined) return;
    if (count > 0) {
      this.#emptySince.delete(name);
      return;
    }
    const now = this.#now();
    const emptySince = this.#emptySince.get(name) ?? now;
    this.#emptySince.set(name, emptySince);
    // The ids of the last items that were stored there are known for as long.
    if (now < emptySince + this.#afterMs) return;
    // From now on no cell serves a process that would look for queues in the oldest place only.
    for (const [name, cell] of this.#cells.all) {
      await this.#cells.raiseFence(name, mark.since);
      await replicated(cell);
    }
    await continueNumbers(this.#cells, left, pin.slice(1).flatMap(slotsOf));
    await forgetLeft(this.#cells, left, mark);
    await changeMap(this.#maps, (map) => withoutOldest(map, tenant, pin));
    this.#logger.info({ tenant }, "all queues of a tenant are in its newer places");
  }
}

function nameOf(tenant: string, { since }: TenantPlace): string {
  return `${since} ${tenant}`;
}

function slotsOf({ slot }: TenantPlace): readonly number[] {
  return slot === "hash" ? everySlot : [slot];
}
