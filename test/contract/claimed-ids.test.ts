/** Ids that count in all queues where an id and a queue are in different Redis: what a crash between the two steps leaves. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ClaimedIds } from "../../shared/queues/claimed-ids.ts";
import { LostWrites, type NewItem } from "../../shared/queues/contract.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";

/** A busy machine must not store an item without its claim. */
const claimWaitMs = 60_000;

let both: TwoCells;
let cells: Cells;
let queues: RedisQueueStore;

beforeAll(async () => {
  both = await startTwoCells("128-255");
  const stores = await both.open();
  if (!stores.cells) throw new Error("there are no cells");
  cells = stores.cells;
  queues = new RedisQueueStore(cells, { claimWaitMs });
});
afterAll(async () => both.stop());

/** The first name whose slot is one of cell a, or of cell b. */
function nameIn(cell: "a" | "b", prefix: string, slotFor: (name: string) => number): string {
  for (let n = 0; ; n++) {
    const name = `${prefix}-${n}`;
    if (slotFor(name) >= 128 === (cell === "b")) return name;
  }
}

const queueSlot = (key: string): number => slotOfQueue({ service: "s", tenant: "", key });

function item(key: string, dedupeId: string, data = "1"): NewItem {
  const queue = { service: "s", tenant: "", key };
  return { queue, class: "messages", head: "{}", data, dedupeId, dedupesEverywhere: true };
}

/** Claims ids and ends before it stores an item. */
function crashing(): ClaimedIds {
  return new ClaimedIds(cells, {
    enqueue: async () => {
      throw brokerUnavailable("the process has ended");
    },
    wasStored: async (queue, dedupeId) => queues.wasStored({ queue, dedupeId }),
    waitMs: claimWaitMs,
  });
}

test("QUE-18: after a crash between claim and item one repeat is stored, with whatever key", async () => {
  const [here, there] = [nameIn("a", "crash", queueSlot), nameIn("b", "crash", queueSlot)];
  for (const repeatAt of [here, there]) {
    const id = nameIn(repeatAt === here ? "b" : "a", `id of ${repeatAt}`, slotOf);
    await expect(crashing().add(item(here, id))).rejects.toThrow("has ended");
    expect(await queues.wasStored(item(here, id))).toBe(false);
    expect((await queues.enqueue(item(repeatAt, id))).kind).toBe("stored");
    const again = [here, there, "another"].map(async (key) => (await queues.enqueue(item(key, id))).kind);
    expect(await Promise.all(again)).toEqual(["duplicate", "duplicate", "duplicate"]);
  }
});

test("QUE-17: an item is not stored once an earlier one of its queue has failed", async () => {
  const sent: string[] = [];
  const ids = new ClaimedIds(cells, {
    enqueue: async ({ data }) => {
      sent.push(data);
      if (data === "1") throw brokerUnavailable("out of reach");
      return { kind: "stored", sequence: data };
    },
    wasStored: async () => false,
    waitMs: claimWaitMs,
  });
  const given = ["0", "1", "2", "3"].map(async (data) => ids.add(item("failing", `failing ${data}`, data)));
  const outcomes = await Promise.allSettled(given);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "rejected"]);
  expect(sent).toEqual(["0", "1"]);
  expect((await ids.add(item("failing", "later", "4"))).kind).toBe("stored");
});

/** Its claim stays open until `answer`. `sent`: data of the items to store; one with data "fails" fails. */
async function withOpenClaim(id: string): Promise<{ ids: ClaimedIds; sent: string[]; answer: () => void }> {
  await expect(crashing().add(item(`claims ${id}`, id))).rejects.toThrow("has ended");
  const { promise: answered, resolve } = Promise.withResolvers<boolean>();
  const sent: string[] = [];
  const ids = new ClaimedIds(cells, {
    enqueue: async ({ data }) => {
      sent.push(data);
      if (data === "fails") throw brokerUnavailable("out of reach");
      return { kind: "stored", sequence: data };
    },
    wasStored: async () => answered,
    waitMs: claimWaitMs,
  });
  return { ids, sent, answer: () => resolve(false) };
}

test("QUE-17: an item given after a failure is stored while the claim of an earlier one is open", async () => {
  const { ids, sent, answer } = await withOpenClaim("open 2");
  const first = ids.add(item("busy", "open 1", "fails"));
  const second = ids.add(item("busy", "open 2", "2"));
  const fourth = first.catch(async () => ids.add(item("busy", "open 4", "4")));
  await Promise.all([
    expect(first).rejects.toThrow("out of reach"),
    expect(second).rejects.toThrow("an earlier item"),
    expect(fourth).resolves.toMatchObject({ kind: "stored" }),
  ]);
  answer();
  expect((await ids.add(item("busy", "open 5", "5"))).kind).toBe("stored");
  expect(sent).toEqual(["fails", "4", "5"]);
});

test("QUE-17: an item without an id that counts everywhere waits for the claims before it", async () => {
  const { ids, sent, answer } = await withOpenClaim("mixed 1");
  const { dedupeId: _, ...plain } = item("mixed", "", "2");
  const given = [ids.add(item("mixed", "mixed 1", "1")), ids.add(plain), ids.add(item("mixed", "mixed 3", "3"))];
  await ids.add({ ...plain, queue: { ...plain.queue, key: "other" }, data: "other" });
  expect(sent).toEqual(["other"]);
  answer();
  await Promise.all(given);
  expect(sent).toEqual(["other", "1", "2", "3"]);
});

test("QUE-17: an item without such an id fails those given after it whose claims are open", async () => {
  const { ids, sent, answer } = await withOpenClaim("behind 2");
  const { dedupeId: _, ...plain } = item("behind", "", "fails");
  const first = ids.add(plain);
  const second = ids.add(item("behind", "behind 2", "2"));
  await Promise.all([expect(first).rejects.toThrow("out of reach"), expect(second).rejects.toThrow("an earlier item")]);
  answer();
  expect((await ids.add({ ...plain, data: "3" })).kind).toBe("stored");
  expect(sent).toEqual(["fails", "3"]);
});

test("EP-28: an item with a claim is refused where the Redis of its queue has another history", async () => {
  await expect(queues.enqueue(item("history", "history"), ["another1"])).rejects.toThrow(LostWrites);
  expect((await queues.enqueue(item("history", "history"), (await queues.histories()).names)).kind).toBe("stored");
});

test("CELL-5: a queue takes items while the cell of their ids is away", async () => {
  const key = nameIn("b", "alone", queueSlot);
  const id = nameIn("a", "away", slotOf);
  const store = new RedisQueueStore(cells);
  await both.a.kill();
  try {
    expect((await store.enqueue(item(key, id))).kind).toBe("stored");
    expect((await store.enqueue(item(key, id))).kind).toBe("duplicate");
  } finally {
    await both.a.restart();
  }
});
