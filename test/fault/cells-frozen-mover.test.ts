/** A private API is frozen while it moves slots, and wakes after another one has taken over. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { moverKeys } from "../../shared/cells/keys.ts";
import { MoverLease } from "../../shared/cells/mover-lease.ts";
import { clearSlots, endArrival, SlotCopy } from "../../shared/cells/slot-copy.ts";
import { slotTag } from "../../shared/channels/keys.ts";
import type { Argument } from "../../shared/redis/client.ts";
import type { RedisConnections } from "../../shared/redis/connections.ts";
import type { Script } from "../../shared/redis/scripts.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";

const slots = [7];
const version = 20;

let twoCells: TwoCells;
let source: RedisConnections;
let target: RedisConnections;
let name: string;

beforeAll(async () => {
  twoCells = await startTwoCells();
  const [first, second] = [...((await twoCells.open()).cells?.all.values() ?? [])];
  if (!first || !second) throw new Error("there are no two cells");
  [source, target] = [first, second];
  name = `${slotTag(source.root, 7)}:channel`;
});
afterAll(async () => {
  await twoCells.stop();
});

/** @param to the target as one process knows it */
function copyOf(id: number, to = target): SlotCopy {
  return new SlotCopy({ source, target: to, move: { id, slots } });
}

/** Its SCAN begins once the test says so. */
function heldAtScan(): { cell: RedisConnections; reached: Promise<void>; release: () => void } {
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const runAt: RedisConnections["runAt"] = async (primary, command, ...values) => {
    reached.resolve();
    await held.promise;
    return target.runAt(primary, command, ...values);
  };
  const cell = new Proxy(target, {
    get: (_, member) => {
      if (member === "runAt") return runAt;
      const value: unknown = Reflect.get(target, member, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { cell, reached: reached.promise, release: held.resolve };
}

async function stored(): Promise<string | null> {
  return target.run<string | null>("get", name);
}

test("CELL-7: a process that was frozen before it copied changes nothing at a slot that has arrived", async () => {
  await source.run("set", name, "moved");
  const copy = copyOf(1);
  await copy.copyWhileOpen(version);
  await copy.finish(version + 1);
  await copy.stop();
  await target.run("set", name, "written since");
  const late = copyOf(1);
  await expect(late.copyWhileOpen(version)).rejects.toThrow("another attempt");
  await late.stop();
  expect(await stored()).toBe("written since");
});

test("CELL-7: a slot that opened again at the old cell, though its copy was complete, is copied again", async () => {
  await source.run("set", name, "newer");
  const again = copyOf(1);
  await again.copyWhileOpen(version + 2);
  await again.finish(version + 3);
  await again.stop();
  expect(await stored()).toBe("newer");
});

test("CELL-7: a process that was frozen while it cleared the new cell deletes nothing of a later attempt", async () => {
  await source.run("set", name, "of the later attempt");
  const { cell, reached, release } = heldAtScan();
  const frozen = copyOf(2, cell);
  const ended = Promise.allSettled([frozen.copyWhileOpen(version + 4)]);
  await reached;
  const later = copyOf(2);
  await later.copyWhileOpen(version + 4);
  release();
  const [{ status, reason }] = (await ended) as [PromiseRejectedResult];
  expect([status, String(reason)]).toEqual(["rejected", expect.stringContaining("another attempt")]);
  await later.finish(version + 5);
  await Promise.all([frozen.stop(), later.stop()]);
  expect(await stored()).toBe("of the later attempt");
});

test("CELL-6: a process that was frozen before it copied copies nothing once the move is aborted", async () => {
  const move = { id: 3, slots };
  await endArrival(target, move, version + 7);
  await clearSlots(target, move);
  const late = copyOf(3);
  await expect(late.copyWhileOpen(version + 6)).rejects.toThrow("another attempt");
  await late.stop();
  expect(await stored()).toBeNull();
});

test("CELL-7: a process that is frozen while it gives its lease up takes none from another", async () => {
  let isFrozen = false;
  const second = new MoverLease(source);
  const { lease } = moverKeys(source.root);
  const run = async <Reply>(command: string | Script<Reply>, ...values: Argument[]): Promise<Reply> => {
    const reply = await source.run(command, ...values);
    if (!isFrozen) return reply;
    // Its lease has ended when it wakes.
    isFrozen = false;
    await source.run("del", lease);
    expect(await second.take()).toBe(true);
    return reply;
  };
  const slow = new Proxy(source, {
    get: (_, member) => (member === "run" ? run : (Reflect.get(source, member, source) as unknown)),
  });
  const first = new MoverLease(slow);
  expect(await first.take()).toBe(true);
  isFrozen = true;
  await first.giveUp();
  expect(await first.take()).toBe(false);
});
