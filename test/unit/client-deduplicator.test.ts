import { expect, test } from "vitest";
import { Deduplicator } from "../../client/src/channels/deduplicator.ts";

test("SDK-7: the deduplicator remembers the newest thousand messages of a connection", () => {
  const deduplicator = new Deduplicator();
  const [one, two] = [{}, {}];
  deduplicator.start();
  for (let message = 0; message < 1_001; message++) expect(deduplicator.isNew(one, message)).toBe(true);
  expect([1, 1_000, 0].map((message) => deduplicator.isNew(two, message))).toEqual([false, false, true]);
});
