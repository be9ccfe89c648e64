/** Cursors of pulls survive their text, and no other text is one. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatCursor, maxCursorLength, parseCursor, type PullCursor } from "../../private-api/changes/pull-cursor.ts";
import { slotCount } from "../../shared/redis/slots.ts";

const time = fc.integer({ min: 0, max: 2 ** 47 });
const place = fc.oneof(
  fc.constant("0-0"),
  fc.tuple(fc.integer({ min: 1, max: 2 ** 47 }), fc.maxSafeNat()).map(([ms, number]) => `${ms}-${number}`),
);
const cursor: fc.Arbitrary<PullCursor> = fc.record({
  since: time,
  places: fc
    .uniqueArray(fc.tuple(fc.nat(slotCount - 1), place), { selector: ([slot]) => slot, maxLength: slotCount })
    .map((entries) => new Map(entries)),
  turn: fc.nat(slotCount - 1),
});

test("CHG-6: a cursor keeps a place in every slot", () => {
  fc.assert(
    fc.property(cursor, (given) => {
      expect(parseCursor(formatCursor(given))).toEqual({
        ...given,
        places: new Map([...given.places].sort(([one], [other]) => one - other)),
      });
    }),
  );
});

test("CHG-6: a cursor over all slots, a month apart, is short enough", () => {
  const now = Date.UTC(2030, 0, 1);
  const places = new Map(
    Array.from({ length: slotCount }, (_, slot) => [slot, `${now - slot * 10_000_000}-${1e9 + slot}`]),
  );
  expect(formatCursor({ since: now, places, turn: 255 }).length).toBeLessThan(maxCursorLength);
});

test("CHG-8: a text that differs from a cursor is none", () => {
  fc.assert(
    fc.property(cursor, fc.nat(), fc.nat(63), (given, at, by) => {
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
      const text = formatCursor(given);
      const index = at % text.length;
      const other = text.slice(0, index) + alphabet[by] + text.slice(index + 1);
      if (other !== text) expect(parseCursor(other)).toBeUndefined();
      expect(parseCursor(text.slice(0, index))).toBeUndefined();
      expect(parseCursor(text + alphabet[by])).toBeUndefined();
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(parseCursor(text)).toBeUndefined();
    }),
  );
});
