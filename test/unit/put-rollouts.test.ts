import { expect, test } from "vitest";
import { putRollouts } from "../../private-api/documents/put-rollouts.ts";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { checkStoredRollouts } from "../../shared/rollouts/document.ts";

const fallback = { name: "stable" };

test("ROLL-1: rollouts that are put at the same time are stored one after the other, each by the shares before it", async () => {
  const store = new MemoryDocumentStore();
  const puts = Array.from({ length: 10 }, (_, i) =>
    putRollouts(store, { groups: [{ name: `group-${i % 2}`, percent: i + 1 }], fallback }, undefined),
  );
  const outcomes = await Promise.all(puts);
  expect(new Set(outcomes.map(({ version }) => version))).toEqual(new Set(outcomes.map((_outcome, i) => i + 1)));
  expect(new Set(outcomes.map(({ kind }) => kind))).toEqual(new Set(["stored"]));
});

test("ROLL-3: of two that are put at the same time the later keeps the points that the earlier gave", async () => {
  const store = new MemoryDocumentStore();
  const [one, two] = ["one", "two"].map((name) => ({ name, percent: 10 }));
  if (!one || !two) throw new Error("two groups");
  const orders = [
    [one, two],
    [two, one],
  ];
  await Promise.all(orders.map(async (groups) => putRollouts(store, { groups, fallback }, undefined)));
  const { shares } = checkStoredRollouts((await store.read())?.document);
  expect(shares).toEqual({ one: [[0, 1_000]], two: [[1_000, 2_000]] });
});

test("ROLL-1: over a version that somebody else has changed meanwhile nothing is put", async () => {
  const store = new MemoryDocumentStore();
  const putOver = async (percent: number) => putRollouts(store, { groups: [{ name: "canary", percent }], fallback }, 0);
  const kinds = (await Promise.all([putOver(1), putOver(2)])).map(({ kind }) => kind);
  expect(kinds).toEqual(["stored", "version_differs"]);
});

test("ROLL-3: what is stored and cannot be read is divided anew", async () => {
  const store = new MemoryDocumentStore();
  await store.put({ document: { groups: "none" }, changedAt: 1 });
  await putRollouts(store, { groups: [{ name: "canary", percent: 10 }], fallback }, undefined);
  expect(checkStoredRollouts((await store.read())?.document).shares).toEqual({ canary: [[0, 1_000]] });
});
