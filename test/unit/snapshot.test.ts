/** Cursors of PostgreSQL. */
import { expect, test } from "vitest";
import { cursorThrough, firstSnapshot, isBefore } from "../../private-api/sources/snapshot.ts";

test("SQL-2: a cursor ends at the newest row: later transaction numbers may be given again after a crash", () => {
  expect(cursorThrough("90:110:90,95,105", { cursor: firstSnapshot, newest: "100" })).toBe("90:101:90,95");
  expect(cursorThrough("120:120:", { cursor: "90:101:90,95", newest: "100" })).toBe("101:101:");
  // The newest rows were deleted.
  expect(cursorThrough("120:120:", { cursor: "90:101:90,95", newest: "80" })).toBe("101:101:");
  expect(cursorThrough("5:5:", { cursor: firstSnapshot, newest: null })).toBe("3:3:");
});

test("SQL-11: a database whose transactions end before the cursor has lost some", () => {
  expect(isBefore("99:100:", "90:101:90,95")).toBe(true);
  expect(isBefore("101:101:", "90:101:90,95")).toBe(false);
});
