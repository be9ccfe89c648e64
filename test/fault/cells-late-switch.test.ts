/** A private API that moves slots is frozen before it switches them, and wakes after the slots have opened and closed again. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CellMover } from "../../private-api/cells/mover.ts";
import { addMoves, takeSlots } from "../../private-api/cells/plan-moves.ts";
import { changeMap } from "../../shared/cells/change-map.ts";
import { SlotCopy } from "../../shared/cells/slot-copy.ts";
import { slotTag } from "../../shared/channels/keys.ts";
import type { Stores } from "../../shared/program/stores.ts";
import type { CellMap, MoveStep } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import type { Argument } from "../../shared/redis/client.ts";
import type { RedisConnections } from "../../shared/redis/connections.ts";
import type { Script } from "../../shared/redis/scripts.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
let source: RedisConnections;
let target: RedisConnections;

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  other = await twoCells.open();
  const [a, b] = [...(mine.cells?.all.values() ?? [])];
  if (!a || !b) throw new Error("there are no two cells");
  [source, target] = [a, b];
});
afterAll(async () => {
  await twoCells.stop();
});

function overridden<Value extends object>(value: Value, members: Partial<Value>): Value {
  return new Proxy(value, {
    get: (_, name) => {
      if (name in members) return Reflect.get(members, name) as unknown;
      const member: unknown = Reflect.get(value, name, value);
      return typeof member === "function" ? member.bind(value) : member;
    },
  });
}

/** A process that moves slots, and is frozen once cell b has answered a command. */
function moverFrozenAfter(command: string): { mover: CellMover; frozen: Promise<void>; wake: () => void } {
  const { cells, cellMaps } = other;
  const b = cells?.all.get("b");
  if (!cells || !b) throw new Error("there are no two cells");
  const frozen = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const run = async <Reply>(sent: string | Script<Reply>, ...values: Argument[]): Promise<Reply> => {
    const reply = await b.run(sent, ...values);
    if ((typeof sent === "string" ? sent : sent.name).startsWith(command)) {
      frozen.resolve();
      await held.promise;
    }
    return reply;
  };
  const all: Cells["all"] = new Map([...cells.all, ["b", overridden(b, { run })]]);
  const common = { maps: cellMaps, onClosed: () => undefined, errors: quietErrors, logger: quietLogger };
  const mover = new CellMover({ ...common, cells: overridden<Cells>(cells, { all }) });
  return { mover, frozen: frozen.promise, wake: held.resolve };
}

async function takeStep(step: MoveStep): Promise<CellMap> {
  return changeMap(mine.cellMaps, ({ moves }) => ({ moves: moves.map((move) => ({ ...move, step })) }));
}

async function order(slot: number, step: MoveStep): Promise<CellMap> {
  return changeMap(mine.cellMaps, (map) => {
    const { moves } = addMoves(map, takeSlots(map, "b", [slot]), Date.now());
    return { moves: moves.map((move) => ({ ...move, step })) };
  });
}

function copyOf({ moves: [move] }: CellMap): SlotCopy {
  if (!move) throw new Error("nothing moves");
  return new SlotCopy({ source, target, move });
}

/** What is written after another process has copied the slot again, and before that one has copied the rest. */
async function openAndCloseAgain(key: string): Promise<SlotCopy> {
  const open = await takeStep("preparing");
  const later = copyOf(open);
  await later.copyWhileOpen(open.version);
  await source.run("set", key, "written since");
  await takeStep("closed");
  return later;
}

async function ended(): Promise<void> {
  await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
}

test("CELL-7: a process that found a copy complete switches nothing once the slot has opened again", async () => {
  const [slot, key] = [7, `${slotTag(source.root, 7)}:channel`];
  await source.run("set", key, "moved");
  // Another process closed the slot and completed the copy, and could not record that.
  const open = await order(slot, "preparing");
  const copy = copyOf(open);
  await copy.copyWhileOpen(open.version);
  const closed = await takeStep("closed");
  await copy.finish(closed.version);
  await copy.stop();
  const { mover, frozen, wake } = moverFrozenAfter("hget");
  await mover.start();
  await frozen;
  const later = await openAndCloseAgain(key);
  wake();
  await ended();
  await Promise.all([mover.stop(), later.stop()]);
  expect(mine.cellMaps.map.owners[slot]).toBe("b");
  expect(await target.run("get", key)).toBe("written since");
});

test("CELL-7: a process that completed a copy switches nothing once the slot has opened again", async () => {
  const [slot, key] = [8, `${slotTag(source.root, 8)}:channel`];
  await source.run("set", key, "moved");
  const { mover, frozen, wake } = moverFrozenAfter("cells/seal-arrival.lua");
  await mover.start();
  await order(slot, "waiting");
  await frozen;
  const later = await openAndCloseAgain(key);
  wake();
  await ended();
  await Promise.all([mover.stop(), later.stop()]);
  expect(mine.cellMaps.map.owners[slot]).toBe("b");
  expect(await target.run("get", key)).toBe("written since");
});
