/** A slot moves between two cells while its change log is written and read. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CellMover } from "../../private-api/cells/mover.ts";
import type { SlotRead } from "../../shared/changes/contract.ts";
import type { Stores } from "../../shared/program/stores.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { moveSlots, startMover, startTwoCells, type TwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { repeat } from "../support/repeat.ts";

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
let mover: CellMover;

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  other = await twoCells.open();
  mover = await startMover(other);
});
afterAll(async () => {
  await mover.stop();
  await twoCells.stop();
});

test("CHG-13: a slot that moves between cells keeps its log, holder and cursors; its readers see no gap", async () => {
  const channel = "board:moving";
  const slot = slotOf(channel);
  const retention = { historySize: 0, historySeconds: 300 };
  const changes = { maxBytes: 1 << 20, maxSeconds: 600, unclaimedSeconds: 600 };
  let published = 0;
  const publish = async (): Promise<void> => {
    await mine.broker.publish({ channel, event: "moved", data: String(++published), retention, changes });
  };
  let heard = 0;
  await other.changeLog.listen({ onAppended: () => heard++, onRestored: () => undefined });
  await publish();
  const [lease] = await other.changeLog.takeLeases([slot], "reader");
  if (!lease) throw new Error("the slot was free");
  const publishing = repeat(publish);
  const seen: string[] = [];
  const gaps: unknown[] = [];
  let place = "0-0";
  const read = async (): Promise<SlotRead | undefined> => {
    const from = { kind: "after", place } as const;
    const [found] = await other.changeLog.read([{ slot, from }], { limit: 100, maxBytes: 1 << 20 });
    seen.push(...(found?.changes ?? []).map(({ data }) => data));
    if (found?.gap) gaps.push(found.gap);
    place = found?.place ?? place;
    return found;
  };
  const reading = repeat(read);
  const saved = { slot, name: "endpoint", place: "1-1" };
  expect(await other.changeLog.saveCursors([{ ...saved, lease }])).toEqual([true]);
  await moveSlots(mine, "b", [slot]);
  // The lease ends with the Redis that gave it, and its holder comes first.
  expect(await other.changeLog.extendLeases([lease])).toEqual([false]);
  expect(await mine.changeLog.takeLeases([slot], "another")).toEqual([]);
  expect(await other.changeLog.takeLeases([slot], "reader")).toMatchObject([{ slot }]);
  expect(await mine.changeLog.cursors([slot], "endpoint")).toEqual([saved]);
  await moveSlots(mine, "a", [slot]);
  await Promise.all([publishing.stop(), reading.stop()]);
  const before = heard;
  await publish();
  await eventually(async () => {
    const found = await read();
    return found?.place === found?.newest;
  });
  await eventually(() => heard > before);
  expect([seen, gaps]).toEqual([Array.from({ length: published }, (_, n) => String(n + 1)), []]);
});

test("CHG-11: a cell that is out of reach ends no leases in another one", async () => {
  const cells = await startTwoCells("128-255");
  const { changeLog } = await cells.open();
  try {
    const leases = await changeLog.takeLeases([1, 200], "reader");
    expect(leases.map(({ slot }) => slot)).toEqual([1, 200]);
    await cells.b.kill();
    expect(await changeLog.extendLeases(leases)).toEqual([true, undefined]);
    expect((await changeLog.takeLeases([2, 201], "reader")).map(({ slot }) => slot)).toEqual([2]);
  } finally {
    await cells.stop();
  }
});
