/** What every implementation of QueueStore and QueueOperations does. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import {
  type Claimed,
  type Enqueued,
  type Lane,
  maxDeadLetterBytes,
  type NewItem,
  type QueueOperations,
  type QueueStore,
  type ReadyQueues,
} from "../../shared/queues/contract.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { eventually } from "../support/eventually.ts";

export type Queues = QueueStore & QueueOperations;

let names = 0;

/** A service of its own for each test: stores are shared. */
function newService(): string {
  return `service-${++names}`;
}

interface Place {
  service: string;
  tenant?: string;
  key?: string;
  class?: string;
}

function item({ service, tenant = "", key = "k", class: name = "messages" }: Place, data: unknown = 1): NewItem {
  return { queue: { service, tenant, key }, class: name, head: "{}", data: JSON.stringify(data) };
}

function readyAt(
  { service, tenant = "", key = "k", class: name = "messages" }: Place,
  attempt: Lane["attempt"],
): ReadyQueues {
  return { slot: slotOfQueue({ service, tenant, key }), class: name, service, tenant, attempt };
}

/** In the slot of key `k`. */
function keysOfOneSlot(service: string, count: number): string[] {
  const slot = slotOfQueue({ service, tenant: "", key: "k" });
  const keys: string[] = [];
  for (let n = 0; keys.length < count; n++) {
    if (slotOfQueue({ service, tenant: "", key: `k${n}` }) === slot) keys.push(`k${n}`);
  }
  return keys;
}

/** Claims one queue of the place's lane. */
async function claim(
  store: Queues,
  place: Place,
  { attempt = "first", maxItems = 1 }: { attempt?: Lane["attempt"]; maxItems?: number } = {},
): Promise<Claimed | undefined> {
  const [reply] = store.claim([{ ...readyAt(place, attempt), maxQueues: 1, maxItems }]);
  return (await reply)?.claimed[0];
}

function dataOf(claimed: Claimed | undefined): unknown[] | undefined {
  return claimed?.items.map(({ data }) => JSON.parse(data) as unknown);
}

async function done(store: Queues, claimed: Claimed | undefined, count = claimed?.items.length ?? 0): Promise<boolean> {
  if (!claimed) throw new Error("nothing was claimed");
  return store.settle(claimed.lease, { kind: "done", done: count });
}

async function retry(store: Queues, claimed: Claimed | undefined, delayMs = 0): Promise<boolean> {
  if (!claimed) throw new Error("nothing was claimed");
  const attempts = claimed.attempts + 1;
  return store.settle(claimed.lease, { kind: "retry", done: 0, attempts, delayMs });
}

/** Stores an item that fails for good. */
async function bury(store: Queues, place: Place, data: unknown = 1): Promise<void> {
  await store.enqueue(item(place, data));
  const claimed = await claim(store, place);
  if (!claimed) throw new Error("nothing was claimed");
  await store.settle(claimed.lease, { kind: "dead", done: 0, failure: "{}" });
}

/** @param create two stores of one deployment, as of two programs; one where there is only one. */
export function queueStoreSuite(name: string, create: () => Promise<[Queues, Queues]>): void {
  describe(`queue store: ${name}`, () => {
    test("SRC-11: items are counted by their source until they leave their queue", async () => {
      const [store, other] = await create();
      const place = { service: newService() };
      const source = `source-of-${place.service}`;
      for (const data of ["a", "b"]) await store.enqueue({ ...item(place, data), source });
      await store.enqueue(item(place, "c"));
      expect(await other.waitingOfSource(source)).toBe(2);
      const first = await claim(store, place);
      if (!first) throw new Error("nothing was claimed");
      expect(await store.waitingOfSource(source)).toBe(2);
      await store.settle(first.lease, { kind: "dead", done: 0, failure: "{}" });
      expect(await store.waitingOfSource(source)).toBe(1);
      const second = await claim(store, place, { maxItems: 2 });
      expect(dataOf(second)).toEqual(["b", "c"]);
      await done(store, second);
      expect(await store.waitingOfSource(source)).toBe(0);
      const letter = (await store.deadLetters({ limit: 1_000 })).letters.find(
        (each) => each.queue.service === place.service,
      );
      expect(await store.retryDeadLetter(letter?.id ?? "")).toBe(true);
      expect(await store.waitingOfSource(source)).toBe(1);
      const again = await claim(store, place);
      expect(again?.items[0]).toMatchObject({ class: "messages", source });
      await done(store, again);
      expect(await store.waitingOfSource(source)).toBe(0);
    });

    test("SRC-11: the items of very many sources are counted at once", async () => {
      const [store] = await create();
      const place = { service: newService() };
      const sources = Array.from({ length: 120 }, (_, n) => `${place.service}-${n}`);
      const counted = sources.filter((_, n) => n % 50 === 7);
      for (const source of counted) await store.enqueue({ ...item(place, "a"), source });
      const counts = await Promise.all(sources.map(async (source) => store.waitingOfSource(source)));
      expect(sources.filter((_, n) => counts[n] === 1)).toEqual(counted);
      for (const _ of counted) await done(store, await claim(store, place));
    });

    test("QUE-1: items of one key are claimed in order, one at a time", async () => {
      const [store, other] = await create();
      const place = { service: newService() };
      for (const data of ["a", "b", "c"]) await store.enqueue(item(place, data));
      const first = await claim(store, place);
      expect(dataOf(first)).toEqual(["a"]);
      expect(await claim(other, place)).toBeUndefined();
      expect(await done(store, first)).toBe(true);
      const second = await claim(other, place);
      expect(dataOf(second)).toEqual(["b"]);
      expect(second?.previous).toBe(first?.items[0].sequence);
      await done(other, second);
      await done(store, await claim(store, place));
      expect(await claim(store, place)).toBeUndefined();
    });

    test("QUE-1: items enqueued in one turn keep their order", async () => {
      const [store] = await create();
      const place = { service: newService() };
      const stored = await Promise.all(
        Array.from({ length: 300 }, async (_, index) => store.enqueue(item(place, index))),
      );
      const sequences = stored.map((outcome) => (outcome.kind === "stored" ? outcome.sequence : ""));
      expect(sequences).toEqual(sequences.toSorted());
      const claimed = await claim(store, place, { maxItems: 300 });
      expect(dataOf(claimed)).toEqual(Array.from({ length: 300 }, (_, index) => index));
      expect(await done(store, claimed)).toBe(true);
    });

    test("QUE-1: items stored and claimed together keep their own head and data, also where some are the same", async () => {
      const [store] = await create();
      const service = newService();
      const keys = keysOfOneSlot(service, 4);
      // One looks like a number, as Redis would read it.
      const contents = [
        { head: "1", data: "a\nb" },
        { head: "1", data: "a\nb" },
        { head: "5", data: "" },
        { head: "1", data: "a\nb" },
        { head: "5", data: "" },
        { head: "2", data: "a\nb" },
      ];
      const given = contents.map((content, n) => ({
        ...item({ service, key: keys[n % keys.length] ?? "" }),
        ...content,
      }));
      await Promise.all(given.map(async (each) => store.enqueue(each)));
      const [reply] = store.claim([{ ...readyAt({ service }, "first"), maxQueues: keys.length, maxItems: 2 }]);
      const claimed = (await reply)?.claimed ?? [];
      const found = claimed.flatMap(({ lease, items }) =>
        items.map(({ head, data }) => ({ key: lease.queue.key, head, data })),
      );
      const expected = keys.flatMap((key) => given.filter(({ queue }) => queue.key === key));
      expect(found).toEqual(expected.map(({ queue: { key }, head, data }) => ({ key, head, data })));
      for (const each of claimed) await done(store, each);
    });

    test("QUE-19: an item whose writer takes its lease is leased where nothing else is in its queue", async () => {
      const [store, other] = await create();
      const place = { service: newService(), tenant: "a b", key: "k:1" };
      const source = `source-of-${place.service}`;
      const heard: ReadyQueues[] = [];
      other.listen({ onReady: (ready) => heard.push(ready), onRestored: () => undefined });
      const isOurs = ({ service }: ReadyQueues): boolean => service === place.service;
      const add = async (data: string, dedupeId: string): Promise<Claimed | undefined> => {
        const enqueued = await store.enqueue({ ...item(place, data), source, dedupeId, takesLease: true });
        return enqueued.kind === "stored" ? enqueued.claimed : undefined;
      };
      const before = Date.now();
      const first = await add("a", "1");
      expect(first).toMatchObject({
        lease: { queue: { service: place.service, tenant: place.tenant, key: place.key }, class: "messages", items: 1 },
        ...{ attempts: 0, previous: undefined },
        items: [{ class: "messages", source, head: "{}", data: '"a"' }],
      });
      expect(Math.abs((first?.claimedAt ?? 0) - before)).toBeLessThan(60_000);
      expect(first?.lease.fence).toMatch(/^\d{20}$/);
      // It is as if it had been claimed: nobody else gets it, and what follows waits for it.
      expect(await claim(other, place)).toBeUndefined();
      expect(await add("a", "1")).toBeUndefined();
      expect(await add("b", "2")).toBeUndefined();
      expect((await other.ready()).lanes.filter(isOurs)).toEqual([]);
      expect(await Promise.all(other.extend(first ? [first.lease] : []))).toEqual([true]);
      expect(await store.waitingOfSource(source)).toBe(2);
      expect(await done(store, first)).toBe(true);
      expect(await store.waitingOfSource(source)).toBe(1);
      await eventually(() => heard.some(isOurs));
      const second = await claim(other, place);
      expect([dataOf(second), second?.previous]).toEqual([["b"], first?.items[0].sequence]);
      expect((second?.lease.fence ?? "") > (first?.lease.fence ?? "")).toBe(true);
      // The queue is empty again.
      await done(other, second);
      const third = await add("c", "3");
      expect([dataOf(third), third?.previous]).toEqual([["c"], undefined]);
      expect(await retry(store, third)).toBe(true);
      expect(await add("d", "4")).toBeUndefined();
    });

    test("QUE-19: items that are stored together are leased each for itself", async () => {
      const [store] = await create();
      const service = newService();
      const [last = "", ...sameSlot] = keysOfOneSlot(service, 6);
      const keys = [...sameSlot, ...Array.from({ length: 20 }, (_, n) => `other-${n}`)];
      const claimed = await Promise.all(
        keys.flatMap((key, n) =>
          ["first", "second"].map(async (data) => {
            const enqueued = await store.enqueue({ ...item({ service, key }, data), takesLease: n % 3 > 0 });
            return enqueued.kind === "stored" ? enqueued.claimed : undefined;
          }),
        ),
      );
      const leases = claimed.flatMap((each) => (each ? [each] : []));
      expect(leases.map(({ lease }) => lease.queue.key)).toEqual(keys.filter((_, n) => n % 3 > 0));
      expect(leases.map(dataOf)).toEqual(leases.map(() => ["first"]));
      const later = await store.enqueue({ ...item({ service, key: last }), takesLease: true });
      const numbers = [...leases, ...(later.kind === "stored" && later.claimed ? [later.claimed] : [])].flatMap(
        // In a cluster each slot counts for itself.
        ({ lease: { slot, fence }, items: [{ sequence }] }) => [`${slot} ${fence}`, `${slot} ${sequence}`],
      );
      expect(new Set(numbers).size).toBe(2 * (leases.length + 1));
      expect(await Promise.all(leases.map(async (each) => done(store, each)))).toEqual(leases.map(() => true));
      const left = await Promise.all(
        [...new Set(keys.map((key) => readyAt({ service, key }, "first").slot))].map(async (slot) => {
          const [reply] = store.claim([{ ...readyAt({ service }, "first"), slot, maxQueues: 99, maxItems: 1 }]);
          return (await reply)?.claimed ?? [];
        }),
      );
      const found = new Map(left.flat().map((each) => [each.lease.queue.key, dataOf(each)]));
      expect(keys.map((key) => found.get(key))).toEqual(keys.map((_, n) => [n % 3 > 0 ? "second" : "first"]));
    });

    test("QUE-2: sequences and fencing tokens grow and are 20 digits", async () => {
      const [store] = await create();
      const place = { service: newService() };
      const sequences: string[] = [];
      const fences: string[] = [];
      for (let round = 0; round < 3; round++) {
        await store.enqueue(item(place));
        const claimed = await claim(store, place);
        sequences.push(claimed?.items[0].sequence ?? "");
        fences.push(claimed?.lease.fence ?? "");
        await done(store, claimed);
      }
      for (const numbers of [sequences, fences]) {
        expect(numbers).toEqual([...new Set(numbers)].toSorted());
        for (const number of numbers) expect(number).toMatch(/^\d{20}$/);
      }
    });

    test("QUE-3: a failed item stays at the head, and later items wait for it", async () => {
      const [store] = await create();
      const place = { service: newService() };
      await store.enqueue(item(place, "a"));
      await store.enqueue(item(place, "b"));
      const first = await claim(store, place);
      expect(await retry(store, first)).toBe(true);
      expect(await claim(store, place)).toBeUndefined();
      await eventually(async () => {
        await store.promote();
        return (await store.ready()).lanes.some(
          (ready) => ready.service === place.service && ready.attempt === "retry",
        );
      });
      const again = await claim(store, place, { attempt: "retry" });
      expect(again).toMatchObject({ attempts: 1, items: [{ sequence: first?.items[0].sequence }] });
      expect(again?.lease.fence).not.toBe(first?.lease.fence);
      await done(store, again);
      expect(dataOf(await claim(store, place))).toEqual(["b"]);
    });

    test("QUE-3: a delayed item is not ready before its time", async () => {
      const [store] = await create();
      const place = { service: newService() };
      await store.enqueue(item(place));
      await retry(store, await claim(store, place), 60_000);
      // Of its slot alone: leases of other tests may have expired.
      const { slot } = readyAt(place, "retry");
      const { nextMs: waitMs } = await store.promote([slot]);
      expect(waitMs).toBeGreaterThan(0);
      expect(waitMs).toBeLessThanOrEqual(60_000);
      expect(await claim(store, place, { attempt: "retry" })).toBeUndefined();
    });

    test("QUE-4: a stale lease holder can neither settle nor extend", async () => {
      const [store, other] = await create();
      const place = { service: newService() };
      await store.enqueue(item(place, "a"));
      await store.enqueue(item(place, "b"));
      const claimed = await claim(store, place);
      const extend = async (by: Queues): Promise<boolean[]> => Promise.all(by.extend(claimed ? [claimed.lease] : []));
      expect(await extend(store)).toEqual([true]);
      expect(await done(store, claimed)).toBe(true);
      expect(await done(other, claimed)).toBe(false);
      expect(await retry(other, claimed)).toBe(false);
      expect(await extend(other)).toEqual([false]);
      expect(dataOf(await claim(store, place))).toEqual(["b"]);
    });

    test("QUE-4: of leases settled together each counts once, and ended ones change nothing", async () => {
      const [store] = await create();
      const service = newService();
      const keys = keysOfOneSlot(service, 10);
      for (const key of keys) for (const data of [1, 2, 3]) await store.enqueue(item({ service, key }, data));
      const [reply] = store.claim([{ ...readyAt({ service }, "first"), maxQueues: 99, maxItems: 1 }]);
      const claimed = (await reply)?.claimed ?? [];
      expect(claimed).toHaveLength(keys.length);
      const [ended] = claimed;
      expect(await done(store, ended)).toBe(true);
      const settled = await Promise.all([...claimed, ...claimed].map(async (each) => done(store, each)));
      expect(settled.filter(Boolean)).toHaveLength(keys.length - 1);
      const [next] = store.claim([{ ...readyAt({ service }, "first"), maxQueues: 99, maxItems: 9 }]);
      const left = (await next)?.claimed ?? [];
      expect(left.map(({ lease }) => lease.queue.key).toSorted()).toEqual(keys.toSorted());
      for (const each of left) {
        expect(dataOf(each)).toEqual([2, 3]);
        expect(each.previous).toBe(
          claimed.find(({ lease }) => lease.queue.key === each.lease.queue.key)?.items[0].sequence,
        );
      }
    });

    test("QUE-5: an id is stored once, whatever else the second item says", async () => {
      const [store, other] = await create();
      const place = { service: newService() };
      const dedupeId = newService();
      expect(await store.wasStored({ ...item(place), dedupeId })).toBe(false);
      expect((await store.enqueue({ ...item(place, "a"), dedupeId })).kind).toBe("stored");
      expect(await other.wasStored({ ...item(place), dedupeId })).toBe(true);
      const repeats = await Promise.all(
        [other, store].map(async (each) => each.enqueue({ ...item(place, "b"), dedupeId })),
      );
      expect(repeats.map(({ kind }: Enqueued) => kind)).toEqual(["duplicate", "duplicate"]);
      expect(dataOf(await claim(store, place, { maxItems: 10 }))).toEqual(["a"]);
    });

    test("QUE-18: an id that counts everywhere is stored once, whatever the tenant and the key", async () => {
      const [store, other] = await create();
      const service = newService();
      const known = (place: Omit<Place, "service">, dedupeId: string): NewItem => ({
        ...item({ service, ...place }),
        ...{ dedupeId, dedupesEverywhere: true },
      });
      // Enough for ids and queues of all places.
      const ids = Array.from({ length: 40 }, (_, n) => `${service}-${n}`);
      const first = await Promise.all(ids.map(async (id) => store.enqueue(known({ key: id }, id))));
      const second = await Promise.all(ids.map(async (id) => other.enqueue(known({ tenant: "t", key: "k" }, id))));
      const third = await Promise.all(ids.map(async (id) => store.enqueue(known({ key: id }, id))));
      expect([first, second, third].map((replies) => new Set(replies.map(({ kind }) => kind)))).toEqual([
        new Set(["stored"]),
        new Set(["duplicate"]),
        new Set(["duplicate"]),
      ]);
      expect(await other.wasStored(known({ key: "other" }, `${service}-0`))).toBe(true);
      expect(await other.wasStored(known({ key: "other" }, `${service}-new`))).toBe(false);
    });

    test("QUE-17: items of one queue keep their order where the ids of some count everywhere", async () => {
      const [store] = await create();
      const place = { service: newService() };
      const numbers = Array.from({ length: 100 }, (_, n) => n);
      await Promise.all(
        numbers.map(async (n) =>
          store.enqueue({
            ...item(place, n),
            ...(n % 3 > 0 && { dedupeId: `${place.service}-${n}`, dedupesEverywhere: true }),
          }),
        ),
      );
      expect(dataOf(await claim(store, place, { maxItems: 100 }))).toEqual(numbers);
    });

    test("QUE-6: a dead letter keeps the item and its failure, and the queue continues", async () => {
      const [store, other] = await create();
      const place = { service: newService(), tenant: "t: 1%", key: "line\none:%\u2028\u0085/" };
      await store.enqueue(item(place, "bad\n"));
      await store.enqueue(item(place, "good"));
      const claimed = await claim(store, place);
      const sequence = claimed?.items[0].sequence ?? "";
      if (!claimed) throw new Error("nothing was claimed");
      const failure = JSON.stringify({ code: "upstream_rejected", message: "no\nway" });
      expect(await store.settle(claimed.lease, { kind: "dead", done: 0, failure })).toBe(true);
      const next = await claim(store, place);
      expect(next).toMatchObject({ previous: sequence, attempts: 0, items: [{ data: '"good"' }] });
      await done(store, next);
      const letters = (await other.deadLetters({ limit: 1_000 })).letters.filter(
        ({ queue }) => queue.service === place.service,
      );
      expect(letters).toMatchObject([
        { failure, queue: { tenant: "t: 1%", key: "line\none:%\u2028\u0085/" }, item: { sequence, data: '"bad\\n"' } },
      ]);

      const [{ id } = { id: "" }] = letters;
      expect(await Promise.all([store.retryDeadLetter(id), other.retryDeadLetter(id)])).toContain(true);
      expect(await store.retryDeadLetter(id)).toBe(false);
      const again = await claim(store, place, { maxItems: 5 });
      expect(dataOf(again)).toEqual(["bad\n"]);
      expect((again?.items[0].sequence ?? "") > sequence).toBe(true);
      expect(await store.removeDeadLetter(id)).toBe(false);
      expect(await store.removeDeadLetter("999-1")).toBe(false);
    });

    test("QUE-6: dead letters are listed oldest first, page by page", async () => {
      const [store] = await create();
      const service = newService();
      const keys = ["a", "b", "c", "d", "e"];
      for (const key of keys) {
        await bury(store, { service, key });
      }
      const listed: string[] = [];
      for (let after: string | undefined; ;) {
        const page = await store.deadLetters({ limit: 2, ...(after !== undefined && { after }) });
        expect(page.letters.length).toBeLessThanOrEqual(2);
        listed.push(...page.letters.filter(({ queue }) => queue.service === service).map(({ queue }) => queue.key));
        after = page.next;
        if (after === undefined) break;
      }
      expect(listed.toSorted()).toEqual(keys);
    });

    test("EP-4: the first items of queues are found, while they are ready and while they are leased", async () => {
      const [store, other] = await create();
      const service = newService();
      const of = { class: "messages", service, tenant: "t: 1%", source: service };
      for (const key of ["a", "b"]) {
        for (const n of [1, 2]) {
          await store.enqueue({ ...item({ service, tenant: of.tenant, key }, `${key}${n}`), source: service });
        }
      }
      await store.enqueue(item({ service: newService(), tenant: of.tenant }, "other"));
      const found = async (): Promise<string[]> => (await other.firstWaiting(of)).toSorted();
      expect(await found()).toEqual(['"a1"', '"b1"']);
      const claimed = await claim(store, { service, tenant: of.tenant, key: "a" });
      expect(await found()).toEqual(['"a1"', '"b1"']);
      await done(store, claimed);
      expect(await found()).toEqual(['"a2"', '"b1"']);
      expect(await store.firstWaiting({ ...of, source: "none" })).toEqual([]);
    });

    test("QAPI-6: a page ends early where its dead letters are large", async () => {
      const [store] = await create();
      const service = newService();
      const after = (await store.deadLetters({ limit: 10_000 })).letters.at(-1)?.id ?? "0-0-0";
      const large = "x".repeat(maxDeadLetterBytes / 2 - 1_024);
      for (const [key, data] of Object.entries({ a: large, b: large, c: "", d: large + large, e: large })) {
        await bury(store, { service, key }, data);
        // Those of one millisecond are in the order of their slots.
        for (const from = Date.now(); Date.now() === from;) await nextTurn();
      }
      const pages: string[] = [];
      for (let next: string | undefined = after; next !== undefined;) {
        const page = await store.deadLetters({ limit: 100, after: next });
        pages.push(page.letters.map(({ queue }) => queue.key).join(""));
        for (const { id } of page.letters) await store.removeDeadLetter(id);
        ({ next } = page);
      }
      expect(pages).toEqual(["abc", "d", "e"]);
    });

    test("QAPI-6: a page of dead letters has `next`, also where its letters are deleted while it is read", async () => {
      const [store] = await create();
      const service = newService();
      const after = (await store.deadLetters({ limit: 10_000 })).letters.at(-1)?.id ?? "0-0-0";
      for (const key of ["a", "b", "c", "d"]) {
        await bury(store, { service, key });
      }
      const { letters } = await store.deadLetters({ limit: 100, after });
      const ids = letters.map(({ id }) => id);
      const [page] = await Promise.all([
        store.deadLetters({ limit: 2, after }),
        store.removeDeadLetter(ids[0] ?? ""),
        store.removeDeadLetter(ids[1] ?? ""),
      ]);
      const rest = await store.deadLetters({ limit: 2, after: page.next ?? "" });
      expect(rest.letters.map(({ id }) => id)).toEqual(ids.slice(2));
      expect(rest.next).toBeUndefined();
    });

    test("QUE-6: a page follows on a dead letter that is gone, also among many of one moment", async () => {
      const [store] = await create();
      const service = newService();
      const keys = keysOfOneSlot(service, 40);
      // Until many more of one slot fail in one millisecond than a page has.
      for (let most = 0; most < 12;) {
        for (const key of keys) await store.enqueue(item({ service, key }));
        const [reply] = store.claim([{ ...readyAt({ service }, "first"), maxQueues: keys.length, maxItems: 1 }]);
        const claimed = (await reply)?.claimed ?? [];
        await Promise.all(
          claimed.map(async ({ lease }) => store.settle(lease, { kind: "dead", done: 0, failure: "{}" })),
        );
        const { letters: listed } = await store.deadLetters({ limit: 1_000 });
        const letters = listed.filter(({ queue }) => queue.service === service);
        const moments = [...Map.groupBy(letters, ({ failedAt }) => failedAt).values()];
        most = Math.max(...moments.map(({ length }) => length));
      }
      const all = (await store.deadLetters({ limit: 10_000 })).letters.map(({ id }) => id);
      for (const isGone of [false, true]) {
        const listed: string[] = [];
        for (let after: string | undefined; ;) {
          const page = await store.deadLetters({ limit: 3, ...(after !== undefined && { after }) });
          listed.push(...page.letters.map(({ id }) => id));
          after = page.next;
          if (after === undefined) break;
          if (isGone) expect(await store.removeDeadLetter(after)).toBe(true);
        }
        expect(listed).toEqual(all);
      }
    });

    test("QUE-7: a parked queue waits until it is released, with its first attempt", async () => {
      const [store] = await create();
      const place = { service: newService() };
      await store.enqueue(item(place, "a"));
      const claimed = await claim(store, place);
      if (claimed) expect(await store.settle(claimed.lease, { kind: "park", done: 0 })).toBe(true);
      await store.enqueue(item(place, "b"));
      await store.promote();
      expect(await claim(store, place)).toBeUndefined();
      const queue = { service: place.service, tenant: "", key: "k" };
      expect(await store.release({ ...queue, key: "other" })).toBe(false);
      expect(await store.release(queue)).toBe(true);
      expect(await store.release(queue)).toBe(false);
      expect(await claim(store, place, { maxItems: 2 })).toMatchObject({
        attempts: 0,
        items: [{ data: '"a"' }, { data: '"b"' }],
      });
    });

    test("QUE-8: the items of a batch that were done leave, the others are delivered again", async () => {
      const [store] = await create();
      const place = { service: newService() };
      for (const data of [1, 2, 3, 4]) await store.enqueue(item(place, data));
      const batch = await claim(store, place, { maxItems: 3 });
      expect(dataOf(batch)).toEqual([1, 2, 3]);
      expect(await done(store, batch, 2)).toBe(true);
      const rest = await claim(store, place, { maxItems: 3 });
      expect(dataOf(rest)).toEqual([3, 4]);
      expect(rest?.previous).toBe(batch?.items[1]?.sequence);
      if (rest) await store.settle(rest.lease, { kind: "retry", done: 1, attempts: 1, delayMs: 0 });
      await eventually(async () => {
        await store.promote();
        return dataOf(await claim(store, place, { attempt: "retry" }))?.[0] === 4;
      });
    });

    test("QUE-9: lanes keep tenants, classes, services and retries apart", async () => {
      const [store] = await create();
      const service = newService();
      const places = [
        { service, tenant: "a" },
        { service, tenant: "a:b" },
        { service, tenant: "a", class: "stats", key: "s" },
        { service: newService(), tenant: "a" },
      ];
      for (const place of places) await store.enqueue(item(place, place.tenant));
      for (const place of places) {
        const [reply] = store.claim([{ ...readyAt(place, "first"), maxQueues: 9, maxItems: 9 }]);
        expect(await reply).toMatchObject({
          more: false,
          claimed: [{ items: [{ data: JSON.stringify(place.tenant) }] }],
        });
      }
    });

    test("QUE-10: dispatchers hear of a tenant's first ready queue, and can ask for all", async () => {
      const [store, other] = await create();
      const place = { service: newService(), tenant: "t" };
      const heard = vi.fn<(ready: ReadyQueues) => void>();
      const restored = vi.fn<() => void>();
      other.listen({ onReady: heard, onRestored: restored });
      await eventually(async () => {
        const probe = { service: newService() };
        await store.enqueue(item(probe));
        return heard.mock.calls.some(([{ service }]) => service.startsWith("service-"));
      });
      await store.enqueue(item(place));
      await eventually(() =>
        heard.mock.calls.some(([ready]) => ready.service === place.service && ready.tenant === "t"),
      );
      expect((await store.ready()).lanes).toContainEqual(readyAt(place, "first"));
      await done(store, await claim(store, place));
      await Promise.all(store.claim([{ ...readyAt(place, "first"), maxQueues: 1, maxItems: 1 }]));
      expect((await store.ready()).lanes.filter(({ service }) => service === place.service)).toEqual([]);
    });

    test("QAPI-4: held queues are found by their key, also by one with signs of a pattern", async () => {
      const [store] = await create();
      const service = newService();
      const keys = ["a*b", "aXb", "[a]?\\", "x:a*b", "100%", "a b"];
      for (const [at, key] of keys.entries()) {
        await store.enqueue(item({ service, key }));
        const claimed = await claim(store, { service, key });
        if (!claimed) throw new Error("nothing was claimed");
        const kind = at % 2 === 0 ? "park" : "retry";
        const settlement =
          kind === "park" ? ({ kind, done: 0 } as const) : ({ kind, done: 0, attempts: 1, delayMs: 60_000 } as const);
        await store.settle(claimed.lease, settlement);
      }
      for (const key of keys) {
        const held = (await store.heldQueues(key)).filter((queue) => queue.service === service);
        expect(held).toEqual([{ service, tenant: "", key }]);
      }
    });

    test("QUE-15: a claim takes as many queues as it asks for, in order, and says if more are ready", async () => {
      const [store] = await create();
      const service = newService();
      const keys = keysOfOneSlot(service, 6);
      for (const key of keys) await store.enqueue(item({ service, key }));
      const lane = readyAt({ service }, "first");
      const taken: string[] = [];
      const more: boolean[] = [];
      for (const maxQueues of [1, 2, 3]) {
        const reply = await store.claim([{ ...lane, maxQueues, maxItems: 1 }])[0];
        taken.push(...(reply?.claimed.map(({ lease }) => lease.queue.key) ?? []));
        more.push(reply?.more ?? true);
      }
      expect(taken).toEqual(keys);
      expect(more).toEqual([true, true, false]);
      expect((await store.ready([lane.slot])).lanes).not.toContainEqual(lane);
    });

    test("QUE-15: a claim takes about 1 MiB of one queue, and at least its first item", async () => {
      const [store] = await create();
      const place = { service: newService() };
      const sizes = [2_000_000, 1, 1, 1, 1, 1, 1, 1, 1, 1, 400_000, 400_000, 400_000, 1, 2_000_000, 1, 1];
      // Two bytes each: characters are not what counts.
      for (const [n, size] of sizes.entries()) await store.enqueue(item(place, `${n} `.padEnd(size / 2, "é")));
      const taken: number[][] = [];
      for (let left = sizes.length; left > 0; left -= taken.at(-1)?.length ?? left) {
        const claimed = await claim(store, place, { maxItems: 100 });
        taken.push((dataOf(claimed) ?? []).map((data) => Number.parseInt(String(data), 10)));
        expect(await done(store, claimed)).toBe(true);
      }
      expect(taken.map(({ length }) => length)).toEqual([1, 12, 2, 2]);
      expect(taken.flat()).toEqual([...sizes.keys()]);
    });

    test("QUE-11: depths count what waits and what is in flight, by class and tenant, and by service", async () => {
      const [store] = await create();
      const tenant = newService();
      const place = { service: newService(), tenant };
      for (const data of [1, 2, 3, 4, 5]) await store.enqueue(item(place, data));
      await store.enqueue({ ...item(place), class: "stats" });
      const depthsOf = async (): Promise<unknown[]> =>
        (await store.depths()).depths
          .filter((depth) => depth.tenant === tenant)
          .toSorted((a, b) => (a.class < b.class ? -1 : 1));
      const batch = await claim(store, place, { maxItems: 2 });
      expect(await depthsOf()).toEqual([
        { class: "messages", tenant, waiting: 3, inFlight: 2, queues: 1, oldestMs: 0 },
        { class: "stats", tenant, waiting: 1, inFlight: 0, queues: 0, oldestMs: 0 },
      ]);
      const other = { service: newService(), tenant };
      await store.enqueue(item(other));
      const { services } = await store.depths();
      const ofService = (name: string): unknown[] => services.filter(({ service }) => service === name);
      expect(ofService(place.service)).toMatchObject([{ class: "messages", inFlight: 2, queues: 1 }]);
      expect(ofService(other.service)).toMatchObject([{ class: "messages", inFlight: 0, queues: 1 }]);
      await done(store, await claim(store, other));
      await done(store, batch);
      await done(store, await claim(store, place, { maxItems: 9 }));
      expect(await depthsOf()).toEqual([]);
    });

    test("QUE-11: depths count the tenants of a slot with very many of them", async () => {
      const [store] = await create();
      const service = newService();
      const slot = slotOfQueue({ service, tenant: "", key: "k" });
      const places = Array.from({ length: 120 }, (_, n): Required<Omit<Place, "class">> => {
        const tenant = `${service}-${n}`;
        let key = 0;
        while (slotOfQueue({ service, tenant, key: String(key) }) !== slot) key++;
        return { service, tenant, key: String(key) };
      });
      await Promise.all(places.map(async (place) => store.enqueue(item(place))));
      const { depths } = await store.depths();
      const counted = depths.filter(({ tenant }) => tenant.startsWith(`${service}-`));
      expect(counted).toHaveLength(places.length);
      expect(new Set(counted.map(({ waiting }) => waiting))).toEqual(new Set([1]));
      for (const place of places) await done(store, await claim(store, place));
    });
  });
}
