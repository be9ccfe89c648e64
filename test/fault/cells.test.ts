/** Slots move between two cells while they are in use. Programs share the test's process; see cells-programs.test.ts for killed ones. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CellMover } from "../../private-api/cells/mover.ts";
import { addMoves, takeSlots } from "../../private-api/cells/plan-moves.ts";
import { changeMap } from "../../shared/cells/change-map.ts";
import type { Stores } from "../../shared/program/stores.ts";
import { parseSlots } from "../../shared/redis/cell-map.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const retention = { historySize: 100_000, historySeconds: 300 };

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
let mover: CellMover;
const pauses: number[] = [];

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  other = await twoCells.open();
  if (!other.cells) throw new Error("there are no cells");
  mover = new CellMover({
    cells: other.cells,
    maps: other.cellMaps,
    onClosed: (pausedMs) => pauses.push(pausedMs),
    errors: quietErrors,
    logger: quietLogger,
  });
  await mover.start();
}, 60_000);
afterAll(async () => {
  await mover.stop();
  await twoCells.stop();
});

async function move(to: string, text: string): Promise<void> {
  const slots = parseSlots(text) ?? [];
  await changeMap(mine.cellMaps, (map) => addMoves(map, takeSlots(map, to, slots), Date.now()));
  await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0, 60_000);
  expect(mine.cellMaps.map.owners.filter((_, slot) => slots.includes(slot))).toEqual(slots.map(() => to));
}

describe("moves", () => {
  test("CELL-3: a channel keeps its history, and a follower sees no gap over a move under publishes", async () => {
    const channel = "board:moving";
    const slot = slotOf(channel);
    const seen: { offset: number; prev: number; data: string }[] = [];
    let restored = 0;
    other.broker.listen({
      onPublication: (name, _epoch, publication) => void (name === channel && seen.push(publication)),
      onEphemeral: () => undefined,
      onUserMessage: () => undefined,
      onRestored: () => void restored++,
    });
    await other.broker.follow({ kind: "channel", name: channel });
    let stop = false;
    let published = 0;
    const publishing = (async () => {
      while (!stop) {
        await mine.broker.publish({ channel, event: "moved", data: String(published), retention });
        published++;
      }
    })();
    await eventually(() => published > 50);
    await move("b", String(slot));
    await eventually(() => published > 100);
    await move("a", String(slot));
    const before = published;
    await eventually(() => published > before + 50);
    stop = true;
    await publishing;
    await eventually(() => seen.length === published);
    expect(seen.map(({ data }) => Number(data))).toEqual(Array.from({ length: published }, (_, at) => at));
    for (const [at, { prev }] of seen.entries()) expect(prev).toBe(seen[at - 1]?.offset ?? 0);
    expect(restored).toBe(0);
    const history = await mine.broker.readHistory({ channel, retention, limit: 100_000, maxBytes: 1 << 30 });
    expect(history.publications).toHaveLength(published);
    console.error("pauses", pauses, "published", published);
  }, 60_000);
});
