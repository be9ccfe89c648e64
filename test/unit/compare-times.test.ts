/** Times in the references and arguments of `compare`. */
import { expect, test } from "vitest";
import { timeOf } from "../../deploy/compare/times.ts";

test.each([
  ["1761352200000", 1_761_352_200_000],
  ["1761352200000.5", 1_761_352_200_000.5],
  ["2025-10-25", Date.UTC(2025, 9, 25)],
  ["2025-10-26T02:30:00.125+02:00", Date.UTC(2025, 9, 26, 0, 30, 0, 125)],
  ["2025-10-26T02:30:00.125+01:00", Date.UTC(2025, 9, 26, 1, 30, 0, 125)],
  ["2025-10-26 02:30:00.125+02", Date.UTC(2025, 9, 26, 0, 30, 0, 125)],
  ["2025-10-26T02:30Z", Date.UTC(2025, 9, 26, 2, 30)],
])("CUT-6: %s is a time", (text, ms) => {
  expect(timeOf(text)).toBe(ms);
});

test.each([
  "2025-10-26T02:30:00",
  "2025-10-26 02:30:00",
  "2025-13-01",
  "2025-10-26T25:00:00Z",
  "Oct 26",
  "-5",
  "",
  " ",
])("CUT-6: %j is no time: in the hour after which clocks are set back, one without a zone is two", (text) => {
  expect(timeOf(text)).toBeUndefined();
});
