import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import type { SlotGroups } from "../redis/slot-groups.ts";
import type { QueueOverview } from "./contract.ts";
import { depthsOf } from "./depths.ts";
import { parseDepth, parseLook, scriptKeys, slotPrefix } from "./keys.ts";

/** Lanes, leases, delays, parked queues and depths of each slot. */
const maxLookedAt = 50;
/** Slots that one script call looks at: 3,200 queues at most, about 10 ms of Redis. */
const slotsAtOnce = 16;

const overviewScript = script<
  [
    now: string,
    dead: number,
    counted: (string | number)[],
    uncounted: number[],
    ...entries: [text: string, queues: number, items: number, inFlight: number, oldestAt: string][],
  ]
>(new URL("overview.lua", import.meta.url), 2);

/** Reads what waits in all slots. */
export class Overview {
  readonly #cells: Cells;
  readonly #groups: SlotGroups;

  constructor(cells: Cells, groups: SlotGroups) {
    this.#cells = cells;
    this.#groups = groups;
  }

  /** @see QueueOperations.depths */
  async read(): Promise<QueueOverview> {
    const looked = await this.#groups.askInChunks(this.#cells.queueSlots, slotsAtOnce, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      const reply = await cell.run(overviewScript, ...scriptKeys(cell, slots[0] ?? 0), maxLookedAt, ...prefixes);
      const [now, dead, counted, uncounted, ...entries] = reply;
      return { now: Number(now), dead, counted, uncounted: uncounted.map((at) => slots[at] ?? 0), entries };
    });
    const [missing] = looked.unreached;
    if (missing && looked.results.length === 0) throw missing.error;
    const many = await this.#countsOf(looked.results.flatMap(({ uncounted }) => uncounted));
    const items = new Map<string, number>();
    for (const counted of [...looked.results.map((each) => each.counted), ...many]) {
      for (let at = 0; at + 1 < counted.length; at += 2) {
        const name = String(counted[at]);
        items.set(name, (items.get(name) ?? 0) + Number(counted[at + 1]));
      }
    }
    const counts = [...items].map(([text, count]) => ({ ...parseDepth(text), items: count }));
    const looks = looked.results.flatMap(({ now, entries }) =>
      entries.map(([text, queues, own, inFlight, oldestAt]) => {
        const oldestMs = oldestAt === "0" ? 0 : Math.max(0, now - Number(oldestAt));
        return { ...parseLook(text), queues, items: own, inFlight, oldestMs };
      }),
    );
    return {
      ...depthsOf(counts, looks),
      deadLetters: looked.results.reduce((sum, { dead }) => sum + dead, 0),
      unreachedSlots: looked.unreached.reduce((sum, { slots }) => sum + slots.length, 0),
    };
  }

  /** Of slots with many tenants, one for each command. A slot that cannot be reached any more is left out. */
  async #countsOf(slots: readonly number[]): Promise<string[][]> {
    const counted = await Promise.allSettled(
      slots.map(async (slot) => {
        const cell = this.#cells.ofSlot(slot);
        return cell.run<Record<string, string>>("hgetall", `${slotPrefix(cell.root, slot)}depths`);
      }),
    );
    return counted.flatMap((outcome) => (outcome.status === "fulfilled" ? [Object.entries(outcome.value).flat()] : []));
  }
}
