/** When the places of a slot that was taken count as loaded. */
import { expect, test } from "vitest";
import type { Behind } from "../../private-api/endpoints/behind.ts";
import type { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import type { HeldSlot, HeldSlots } from "../../private-api/endpoints/held-slots.ts";
import type { QueueHistories } from "../../private-api/endpoints/queue-histories.ts";
import { SlotTakeover } from "../../private-api/endpoints/slot-takeover.ts";
import type { StoredPlaces } from "../../private-api/endpoints/stored-places.ts";

function heldSlot(slot: number): HeldSlot {
  return {
    lease: { slot, fence: 1 },
    heldSince: 0,
    place: undefined,
    seen: undefined,
    queuedUpTo: undefined,
    gap: undefined,
  };
}

test("EP-24: a slot whose places are loaded while leases are renewed is not loaded again", async () => {
  const all = new Map<number, HeldSlot>();
  const renewals = [1, 2].map(() => Promise.withResolvers<readonly number[]>());
  let renewed = 0;
  const takeover = new SlotTakeover({
    slots: {
      all,
      hasLost: false,
      renew: async () => {
        const taken = ((await renewals[renewed++]?.promise) ?? []).map(heldSlot);
        for (const held of taken) all.set(held.lease.slot, held);
        return taken;
      },
    } as unknown as HeldSlots,
    places: { load: async () => undefined, loadAllBehind: async () => undefined } as unknown as StoredPlaces,
    behind: { lose: () => undefined } as unknown as Behind,
    current: { catchUp: async () => undefined } as unknown as CurrentEndpoints,
    histories: { haveChanged: async () => false } as unknown as QueueHistories,
  });
  renewals[0]?.resolve([1]);
  await takeover.renew();
  const renewal = takeover.renew();
  expect(await takeover.step()).toEqual([1]);
  renewals[1]?.resolve([2]);
  await renewal;
  expect(await takeover.step()).toEqual([2]);
});
