import { expect, test } from "vitest";
import { Doubles } from "../../client/src/channels/doubles.ts";

test("SDK-7: of what one connection has brought the newest thousand are remembered for the other", () => {
  const doubles = new Doubles();
  const [one, two] = [{}, {}];
  doubles.watch();
  for (let message = 0; message < 1_001; message++) expect(doubles.passes(one, message)).toBe(true);
  expect([1, 1_000, 0].map((message) => doubles.passes(two, message))).toEqual([false, false, true]);
});
