import { expect, test } from "vitest";
import { rolloutPoint } from "../../private-api/endpoints/endpoint-form.ts";

test("CUT-4: an endpoint has one point for ever, and points are distributed uniformly", () => {
  // Computed once: another value would move endpoints that were cut over.
  expect(rolloutPoint({ id: "ep_1" })).toBe(85.07);
  const points = Array.from({ length: 20_000 }, (_, n) => rolloutPoint({ id: `ep_${n}` }));
  for (const percent of [1, 10, 50, 90]) {
    const share = points.filter((point) => point < percent).length / points.length;
    expect(Math.abs(share * 100 - percent)).toBeLessThan(1.5);
  }
  expect(Math.max(...points)).toBeLessThan(100);
});
