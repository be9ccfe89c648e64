/** What every implementation of ChangeLog does, and what brokers append to it. */
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { ChannelBroker, PublishOutcome, PublishRequest } from "../../shared/channels/contract.ts";
import { changeOverheadBytes } from "../../shared/channels/contract.ts";
import type { Change, ChangeLog, Place, ReadBounds, ReadFrom, SlotRead } from "../../shared/changes/contract.ts";
import { firstCursors, placeBeforeAll } from "../../shared/changes/contract.ts";
import { changesBetween, comparePlaces, placeAtTime, timeOf } from "../../shared/changes/places.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { eventually } from "../support/eventually.ts";

/** One program of a deployment. */
export interface LoggingProgram {
  broker: ChannelBroker;
  log: ChangeLog;
}

const retention = { historySize: 0, historySeconds: 300 };
const changes = { maxBytes: 1 << 20, maxSeconds: 600, unclaimedSeconds: 600 };
/** Leases of the programs under test: one test expects the end of one lease, and extends another one meanwhile. */
export const shortLeaseMs = 2_000;

let usedSlots = 0;

/** A slot of its own for each test: programs are shared. */
function newSlot(): number {
  return usedSlots++;
}

function channelIn(slot: number): string {
  for (;;) {
    const name = `board:${randomUUID()}`;
    if (slotOf(name) === slot) return name;
  }
}

/** @param create two programs of one deployment; twice the same in memory. Their leases last {@link shortLeaseMs}. */
export function changeLogSuite(name: string, create: () => Promise<[LoggingProgram, LoggingProgram]>): void {
  describe(`change log: ${name}`, () => {
    async function publish(
      { broker }: LoggingProgram,
      channel: string,
      more: Partial<PublishRequest> = {},
    ): Promise<PublishOutcome> {
      return broker.publish({ channel, event: "moved", data: "{}", retention, changes, ...more });
    }
    async function read(
      { log }: LoggingProgram,
      slot: number,
      from: ReadFrom,
      bounds: Partial<ReadBounds> = {},
    ): Promise<SlotRead> {
      const [found] = await log.read([{ slot, from }], { limit: 1_000, maxBytes: 1 << 20, ...bounds });
      if (!found) throw new Error("the slot was not looked at");
      return found;
    }
    const start: ReadFrom = { kind: "start" };
    const after = (place: Place): ReadFrom => ({ kind: "after", place });
    const dataOf = (found: SlotRead): string[] => found.changes.map(({ data }) => data);
    const bytesOf = ({ epoch, offset, prev, event, channel, data }: Change): number =>
      `${epoch} ${offset} ${prev} ${event} ${channel}`.length + data.length + changeOverheadBytes;

    test("CHG-1: each publication is logged once; ephemeral, refused and repeated ones are not", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      const first = await publish(program, channel, { id: "a", data: '"one"' });
      await publish(program, channel, { id: "a", data: '"again"' });
      await publish(program, channel, { expect: { epoch: "other", offset: 1 }, data: '"refused"' });
      await program.broker.publishEphemeral({ channel, event: "cursor", data: '"ephemeral"' });
      await program.broker.publish({ channel: channelIn(slot), event: "moved", data: '"not logged"', retention });
      await publish(program, channel, { data: '"zwei ✓"' });
      const found = await read(program, slot, start);
      const { epoch } = first.position;
      expect(found.changes).toEqual([
        expect.objectContaining({ channel, epoch, offset: 1, prev: 0, event: "moved", data: '"one"' }),
        expect.objectContaining({ channel, epoch, offset: 2, prev: 1, event: "moved", data: '"zwei ✓"' }),
      ]);
      expect(found.place).toBe(found.newest);
      expect(found.changes.map(({ at }) => Math.abs(at - Date.now()) < 60_000)).toEqual([true, true]);
    });

    test("CHG-15: a change keeps the origin of its publication, where it has one", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      await publish(program, channel, { origin: "bridge" });
      await publish(program, channel);
      expect((await read(program, slot, start)).changes.map(({ origin }) => origin)).toEqual(["bridge", undefined]);
    });

    test("CHG-2: the log has the order of the channel, from 10 publishers at once", async () => {
      const [program, other] = await create();
      const slot = newSlot();
      const channels = [channelIn(slot), channelIn(slot)];
      await Promise.all(
        Array.from({ length: 100 }, async (_, index) =>
          publish(index % 2 ? program : other, channels[index % 3 ? 0 : 1] ?? "", { data: String(index) }),
        ),
      );
      const found = await read(program, slot, start);
      expect(found.changes).toHaveLength(100);
      for (const channel of channels) {
        const offsets = found.changes.filter((change) => change.channel === channel).map(({ offset }) => offset);
        expect(offsets).toEqual(offsets.map((_, index) => index + 1));
      }
      const places = found.changes.map(({ place }) => place);
      expect(places).toEqual([...new Set(places)].sort(comparePlaces));
      expect(changesBetween(places[0] ?? "", places.at(-1) ?? "")).toBe(99);
    });

    test("CHG-6: a read continues after a place; start, end and a time begin where they say", async () => {
      const [program, other] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      expect(await read(program, slot, start)).toEqual({
        ...{ slot, changes: [], place: placeBeforeAll, newest: placeBeforeAll },
      });
      for (const data of ["1", "2"]) await publish(program, channel, { data });
      const first = await read(other, slot, after(placeBeforeAll), { limit: 1 });
      expect(dataOf(first)).toEqual(["1"]);
      expect(first.place).not.toBe(first.newest);
      expect(dataOf(await read(other, slot, after(first.place)))).toEqual(["2"]);
      const end = await read(other, slot, { kind: "end" });
      expect([dataOf(end), end.place]).toEqual([[], first.newest]);
      await eventually(() => Date.now() > timeOf(end.place));
      await publish(program, channel, { data: "3" });
      const third = await read(other, slot, after(end.place));
      expect([dataOf(third), third.gap]).toEqual([["3"], undefined]);
      const at = timeOf(third.place);
      expect(dataOf(await read(other, slot, { kind: "time", at }))).toEqual(["3"]);
      expect(dataOf(await read(other, slot, { kind: "time", at: 0 }))).toEqual(["1", "2", "3"]);
      expect(dataOf(await read(other, slot, after(placeAtTime(at))))).toEqual(["3"]);
      for (const from of [{ kind: "time", at: at + 60_000 } as const, after(placeAtTime(at + 60_000))]) {
        const future = await read(other, slot, from);
        expect([dataOf(future), future.place, future.gap]).toEqual([[], third.newest, undefined]);
      }
    });

    test("CHG-7: a read of some channels passes over the others", async () => {
      const [program] = await create();
      const slot = newSlot();
      const [one, two] = [channelIn(slot), channelIn(slot)];
      for (const data of ["1", "2"]) for (const channel of [one, two]) await publish(program, channel, { data });
      const channels = { names: [one], prefixes: [] };
      const first = await read(program, slot, start, { limit: 1, channels });
      expect(first.changes).toMatchObject([{ channel: one, data: "1" }]);
      const second = await read(program, slot, after(first.place), { channels });
      expect(second.changes).toMatchObject([{ channel: one, data: "2" }]);
      expect(second.place).toBe(second.newest);
      const byPrefix = await read(program, slot, start, { channels: { names: [], prefixes: [two.slice(0, -3)] } });
      expect(byPrefix.changes.map(({ channel }) => channel)).toEqual([two, two]);
    });

    test("CHG-10: a read of many slots ends at its bounds, and names the slots that it looked at", async () => {
      const [program] = await create();
      const slots = [newSlot(), newSlot(), newSlot()];
      for (const slot of slots) {
        const channel = channelIn(slot);
        for (let index = 0; index < 30; index++) await publish(program, channel, { data: `"${"日".repeat(30)}"` });
      }
      const places = new Map<number, Place>();
      const seen = slots.map(() => 0);
      for (let reads = 0; seen.some((count) => count < 30); reads++) {
        expect(reads).toBeLessThan(20);
        const queries = slots.map((slot) => ({ slot, from: after(places.get(slot) ?? placeBeforeAll) }));
        const found = await program.log.read(queries, { limit: 20, maxBytes: 1_000 });
        const bytes = found.flatMap((one) => one.changes).map(({ data }) => Buffer.byteLength(data));
        expect(bytes.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(1_000);
        for (const { slot, changes: more, place } of found) {
          places.set(slot, place);
          seen[slots.indexOf(slot)] = (seen[slots.indexOf(slot)] ?? 0) + more.length;
        }
      }
      expect(seen).toEqual([30, 30, 30]);
      const [tooLarge] = await program.log.read([{ slot: slots[0] ?? 0, from: start }], { limit: 5, maxBytes: 1 });
      expect(tooLarge?.changes).toHaveLength(1);
    });

    test("CHG-3: a log keeps the newest changes, up to its bytes, and counts them exactly", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      const small = { ...changes, maxBytes: 20_000 };
      for (let index = 0; index < 300; index++) {
        await publish(program, channel, { data: `"${"x".repeat(index)}"`, changes: small });
      }
      const kept = (await read(program, slot, start)).changes;
      expect(kept.at(-1)?.offset).toBe(300);
      expect(kept[0]?.offset).toBe(301 - kept.length);
      const figures = (await program.log.figures()).find((one) => one.slot === slot);
      expect(figures).toMatchObject({ changes: kept.length, newest: kept.at(-1)?.place });
      const bytes = kept.reduce((sum, change) => sum + bytesOf(change), 0);
      expect(figures?.bytes).toBe(bytes);
      expect(bytes).toBeLessThanOrEqual(20_000);
      expect(bytes).toBeGreaterThan(18_000);
      expect(figures?.oldestAt).toBeLessThanOrEqual(kept[0]?.at ?? 0);
    });

    test("CHG-3: the newest change is kept, whatever its size", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      for (const data of ["1", "2", "3"])
        await publish(program, channel, { data, changes: { ...changes, maxBytes: 1 } });
      expect(dataOf(await read(program, slot, start))).toEqual(["3"]);
    });

    test("CHG-4: a reader gets a gap in place of changes that were removed, and none without a loss", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      await publish(program, channel, { data: "0" });
      const { place, changes: begun } = await read(program, slot, start);
      const tiny = { ...changes, maxBytes: 1_000 };
      for (let index = 1; index < 40; index++) await publish(program, channel, { data: String(index), changes: tiny });
      const late = await read(program, slot, after(place));
      const kept = late.changes;
      expect(late.gap).toMatchObject({ from: begun[0]?.at });
      expect(late.gap?.to).toBeLessThanOrEqual(kept[0]?.at ?? 0);
      expect(kept[0]?.offset).toBeGreaterThan(2);
      expect(kept.at(-1)?.offset).toBe(40);
      expect((await read(program, slot, after(late.place))).gap).toBeUndefined();
      expect((await read(program, slot, start)).gap).toBeUndefined();
      expect((await read(program, slot, after(placeBeforeAll))).gap).toBeDefined();
      expect((await read(program, slot, { kind: "time", at: begun[0]?.at ?? 0 })).gap).toBeDefined();
      // The change before the oldest one kept was read: nothing is missing.
      for (let index = 0; index < 40; index++) {
        const seen = await read(program, slot, { kind: "end" });
        await publish(program, channel, { data: "1", changes: { ...changes, maxBytes: 1 } });
        expect(await read(program, slot, after(seen.place))).not.toHaveProperty("gap");
      }
    });

    test("CHG-4: a log ends once its newest change is too old, and its readers get a gap", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      const brief = { ...changes, maxSeconds: 1 };
      await publish(program, channel, { data: "1" });
      const { place } = await read(program, slot, start);
      await publish(program, channel, { data: "2", changes: brief });
      await eventually(async () => (await read(program, slot, start)).changes.length === 0);
      const late = await read(program, slot, after(place));
      expect([late.changes.length, late.gap?.from, late.place]).toEqual([0, timeOf(place), late.newest]);
      await publish(program, channel, { data: "3" });
      const next = await read(program, slot, after(late.place));
      expect([dataOf(next), next.gap]).toEqual([["3"], undefined]);
      expect((await read(program, slot, after(place))).gap).toBeDefined();
      expect(dataOf(await read(program, slot, start))).toEqual(["3"]);
    });

    test("CHG-5: a place that the log does not have is a gap, and all that is kept follows", async () => {
      const [program] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      const far: Place = `${Date.now() + 60_000}-7`;
      const empty = await read(program, slot, after(far));
      expect([empty.gap !== undefined, empty.place]).toEqual([true, placeBeforeAll]);
      for (const data of ["1", "2"]) await publish(program, channel, { data });
      const [first, second] = (await read(program, slot, start)).changes;
      for (const place of [far, `${first?.at ?? 0}-77`, `${(second?.at ?? 0) + 1}-2`]) {
        const found = await read(program, slot, after(place));
        expect([found.gap !== undefined, dataOf(found)]).toEqual([true, ["1", "2"]]);
      }
    });

    test("CHG-9: a change is reported to the listeners of every program, with its slot and channel", async () => {
      const [program, other] = await create();
      const heard: [number, string][] = [];
      await other.log.listen({
        onAppended: (slot, channel) => heard.push([slot, channel]),
        onRestored: () => undefined,
      });
      const slot = newSlot();
      const channel = channelIn(slot);
      await publish(program, channel);
      await eventually(() => heard.some(([of]) => of === slot));
      expect(heard.filter(([of]) => of === slot)).toEqual([[slot, channel]]);
    });

    test("CHG-11: one holder reads a slot; the lease of another one ends, and changes nothing then", async () => {
      const [program, other] = await create();
      const slots = [newSlot(), newSlot()];
      const taken = await program.log.takeLeases(slots, "one");
      expect(taken.map(({ slot }) => slot)).toEqual(slots);
      expect(await other.log.takeLeases(slots, "two")).toEqual([]);
      await eventually(async () => {
        const [extended] = await program.log.extendLeases(taken.slice(0, 1));
        expect(extended).toBe(true);
        return (await other.log.takeLeases(slots.slice(1), "two")).length === 1;
      });
      const [kept, lost] = taken;
      if (!kept || !lost) throw new Error("two leases were taken");
      expect(await program.log.extendLeases([lost, kept])).toEqual([false, true]);
      const queries = [kept, lost].map((lease) => ({ slot: lease.slot, from: start, lease }));
      const reads = await program.log.read(queries, { limit: 1, maxBytes: 1 });
      expect(reads.map(({ slot, hasEnded }) => [slot, hasEnded])).toEqual([
        [kept.slot, undefined],
        [lost.slot, true],
      ]);
      const save = { name: "hot", place: "1-1" };
      const saves = [kept, lost].map((lease) => ({ ...save, slot: lease.slot, lease }));
      expect(await program.log.saveCursors(saves)).toEqual([true, false]);
      expect(await other.log.cursors(slots, "hot")).toEqual([{ ...save, slot: kept.slot }]);
      await program.log.releaseLeases([kept]);
      const [next] = await other.log.takeLeases([kept.slot], "two");
      expect(next?.fence).toBeGreaterThan(kept.fence);
      expect(await program.log.saveCursors([{ ...save, slot: kept.slot, lease: kept }])).toEqual([false]);
    });

    test("CHG-3: what every live cursor has passed is removed first; a cursor keeps what it needs", async () => {
      const [program] = await create();
      const [channel, other] = [channelIn(newSlot()), channelIn(newSlot())];
      const slot = slotOf(channel);
      const unclaimed = { changes: { ...changes, unclaimedSeconds: 0 } };
      const oldestOf = async (name = channel): Promise<number> =>
        (await read(program, slotOf(name), start, { limit: 1 })).changes[0]?.offset ?? 0;
      /** Publishes until the condition holds: an implementation may look at old changes every now and then only. */
      const publishUntil = async (condition: () => Promise<boolean>): Promise<void> =>
        eventually(async () => {
          for (const name of [channel, other]) await publish(program, name, unclaimed);
          return condition();
        });
      await publishUntil(async () => (await oldestOf()) > 1);
      const { place, changes: kept } = await read(program, slot, start, { limit: 1 });
      const oldest = kept[0]?.offset ?? 0;
      await program.log.saveCursors([{ slot, name: "endpoint", place }]);
      await program.log.keep("pull", [{ slot, place }]);
      // No cursor needs the other log, which loses what was published since.
      const { position } = await publish(program, other, unclaimed);
      await publishUntil(async () => (await oldestOf(other)) > position.offset);
      expect(await oldestOf()).toBe(oldest);
      await program.log.saveCursors([{ slot, name: "endpoint", place: undefined }]);
      const { newest } = await read(program, slot, start, { limit: 1 });
      expect(await oldestOf()).toBe(oldest);
      await program.log.keep("pull", [{ slot, place: newest }]);
      await publishUntil(async () => (await oldestOf()) > oldest);
      expect((await read(program, slot, after(newest))).gap).toBeUndefined();
    });

    test("SQL-14: places of rows that left the log are kept up to their cap, while a cursor needs them", async () => {
      const [program, other] = await create();
      const slot = newSlot();
      const channel = channelIn(slot);
      let written = 0;
      async function publishRows(count: number, maxRowBytes: number): Promise<void> {
        for (const last = written + count; written < last;) {
          const row = { shard: "crm/CRM_URL", id: String(++written) };
          await publish(program, channel, { row, changes: { ...changes, maxBytes: 1_000, maxRowBytes } });
        }
      }
      const rowsAfter = async (place: Place): Promise<SlotRead> => read(other, slot, after(place), { withRows: true });
      const rowBytes = async (): Promise<number | undefined> =>
        (await program.log.figures()).find((one) => one.slot === slot)?.rowBytes;
      await publishRows(1, 1e6);
      const { place } = await read(program, slot, start);
      await program.log.saveCursors([{ slot, name: "endpoint", place }]);
      await publishRows(50, 1e6);
      const all = await rowsAfter(place);
      const noted = all.rows?.changes ?? [];
      expect([all.gap, all.changes]).toEqual([undefined, []]);
      expect(noted.map(({ row, bytes }) => `${row.shard} ${row.id} ${bytes}`)).toEqual(
        noted.map((_, at) => `crm/CRM_URL ${at + 2} 2`),
      );
      expect(all.place).toBe(all.rows?.until);
      const log = await rowsAfter(all.place);
      expect([log.changes[0]?.offset, log.gap]).toEqual([noted.length + 2, undefined]);
      // That of the cursor's own change is kept, too.
      const kept = (await rowsAfter(placeBeforeAll)).rows?.changes ?? [];
      expect(kept.length).toBe(noted.length + 1);
      const sizes = kept.map(({ row, bytes, ...change }) =>
        bytesOf({ ...change, data: `${row.shard} ${row.id} ${bytes}` }),
      );
      expect(await rowBytes()).toBe(sizes.reduce((sum, size) => sum + size, 0));
      // The oldest leave first, and are a gap.
      await publishRows(1, 1_000);
      expect(await rowBytes()).toBeLessThanOrEqual(1_000);
      const late = await rowsAfter(place);
      expect(late.gap?.from).toBe(timeOf(place));
      expect(late.rows?.changes.at(-1)?.offset).toBe(((await read(program, slot, start)).changes[0]?.offset ?? 0) - 1);
      await program.log.saveCursors([{ slot, name: "endpoint", place: undefined }]);
      await publishRows(1, 1e6);
      expect(await rowBytes()).toBe(0);
      expect((await rowsAfter(place)).rows).toBeUndefined();
    });

    test("CHG-12: cursors are saved, replaced and removed by slot and name", async () => {
      const [program, other] = await create();
      const slots = [newSlot(), newSlot()];
      const saved = slots.map((slot) => ({ slot, name: "endpoint-1", place: `${slot + 1}-1` }));
      expect(await program.log.saveCursors([...saved, ...saved])).toEqual([true, true, true, true]);
      expect(await other.log.cursors(slots, "endpoint-1")).toEqual(saved);
      expect(await other.log.cursors(slots, "endpoint-2")).toEqual([]);
      expect(await other.log.cursorsOf(slots[0] ?? 0, firstCursors)).toEqual({
        cursors: saved.slice(0, 1),
        next: undefined,
      });
      await program.log.saveCursors([{ slot: slots[0] ?? 0, name: "endpoint-1", place: undefined }]);
      expect(await other.log.cursors(slots, "endpoint-1")).toEqual(saved.slice(1));
    });
  });
}
