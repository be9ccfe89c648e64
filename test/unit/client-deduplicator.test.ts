import { expect, test } from "vitest";
import { Deduplicator } from "../../client/src/channels/deduplicator.ts";

test("SDK-7: the deduplicator remembers the newest thousand messages of a connection", () => {
  const deduplicator = new Deduplicator();
  const [one, two] = [{}, {}];
  deduplicator.start();
  for (let message = 0; message < 1_001; message++) expect(deduplicator.isNew(one, message)).toBe(true);
  expect([1, 1_000, 0].map((message) => deduplicator.isNew(two, message))).toEqual([false, false, true]);
});

test("SDK-7: the deduplicator remembers a mebibyte of messages", () => {
  const deduplicator = new Deduplicator();
  const [one, two] = [{}, {}];
  deduplicator.start();
  const messages = Array.from({ length: 10 }, (_, at) => String(at).repeat(200_000));
  for (const message of messages) deduplicator.isNew(one, message);
  // With its quotes and brackets five of them fit.
  const asked = [9, 8, 7, 6, 5, 4];
  expect(asked.map((at) => deduplicator.isNew(two, messages[at]))).toEqual([false, false, false, false, false, true]);
});
