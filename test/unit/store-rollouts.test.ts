import { expect, test } from "vitest";
import { storeRollouts } from "../../private-api/documents/store-rollouts.ts";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { checkStoredRollouts } from "../../shared/rollouts/document.ts";

const fallback = { name: "stable" };

test("ROLL-1: concurrent puts are stored one after the other, each with the shares before it", async () => {
  const store = new MemoryDocumentStore();
  const puts = Array.from({ length: 10 }, (_, i) =>
    storeRollouts(store, { groups: [{ name: `group-${i % 2}`, percent: i + 1 }], fallback }, undefined),
  );
  const outcomes = await Promise.all(puts);
  expect(new Set(outcomes.map(({ version }) => version))).toEqual(new Set(outcomes.map((_outcome, i) => i + 1)));
  expect(new Set(outcomes.map(({ kind }) => kind))).toEqual(new Set(["stored"]));
});

test("ROLL-3: of two concurrent puts the later keeps the points that the earlier assigned", async () => {
  const store = new MemoryDocumentStore();
  const [one, two] = ["one", "two"].map((name) => ({ name, percent: 10 }));
  if (!one || !two) throw new Error("two groups");
  const orders = [
    [one, two],
    [two, one],
  ];
  await Promise.all(orders.map(async (groups) => storeRollouts(store, { groups, fallback }, undefined)));
  const { shares } = checkStoredRollouts((await store.read())?.document);
  expect(shares).toEqual({ one: [[0, 1_000]], two: [[1_000, 2_000]] });
});

test("ROLL-1: a put over a version that has changed in the meantime stores nothing", async () => {
  const store = new MemoryDocumentStore();
  const putOver = async (percent: number) =>
    storeRollouts(store, { groups: [{ name: "canary", percent }], fallback }, 0);
  const kinds = (await Promise.all([putOver(1), putOver(2)])).map(({ kind }) => kind);
  expect(kinds).toEqual(["stored", "version_differs"]);
});

test("ROLL-3: shares are divided from scratch where the stored document cannot be read", async () => {
  const store = new MemoryDocumentStore();
  await store.put({ document: { groups: "none" }, changedAt: 1 });
  await storeRollouts(store, { groups: [{ name: "canary", percent: 10 }], fallback }, undefined);
  expect(checkStoredRollouts((await store.read())?.document).shares).toEqual({ canary: [[0, 1_000]] });
});
