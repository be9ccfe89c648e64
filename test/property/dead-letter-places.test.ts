import fc from "fast-check";
import { expect, test } from "vitest";
import {
  comparePlaces,
  deadLetterId,
  type DeadLetterPlace,
  oldestPlaces,
  parseDeadLetterId,
} from "../../shared/queues/dead-letter-places.ts";
import { everySlot } from "../../shared/redis/slots.ts";

test("QAPI-6: a page has the oldest dead letters of all slots, however they are spread", async () => {
  const place = fc.record({
    failedAt: fc.integer({ min: 1, max: 60 }),
    // Few slots, so that some have a great part of the page.
    slot: fc.constantFrom(0, 1, 7, 255),
    sequence: fc.integer({ min: 1, max: 9_999 }).map(String),
  });
  const places = fc.uniqueArray(place, { selector: deadLetterId, minLength: 1, maxLength: 300 });
  await fc.assert(
    fc.asyncProperty(places, fc.integer({ min: 1, max: 200 }), async (all, limit) => {
      const ordered = all.toSorted(comparePlaces);
      const read = async (slot: number, count: number): Promise<DeadLetterPlace[]> =>
        ordered.filter((each) => each.slot === slot).slice(0, count);
      expect(await oldestPlaces(everySlot, limit, read)).toEqual(ordered.slice(0, limit));
      expect(all.map((each) => parseDeadLetterId(deadLetterId(each)))).toEqual(all);
    }),
    { numRuns: 200 },
  );
});
