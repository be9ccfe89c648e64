/** Long histories and change logs move between two cells while they are in use. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, type MockInstance, test, vi } from "vitest";
import type { CellMover } from "../../private-api/cells/mover.ts";
import { SlotCopy } from "../../shared/cells/slot-copy.ts";
import { changeKeys, channelKeys, idempotencyKey } from "../../shared/channels/keys.ts";
import type { ReadFrom } from "../../shared/changes/contract.ts";
import type { Stores } from "../../shared/program/stores.ts";
import type { Argument } from "../../shared/redis/client.ts";
import type { RedisConnections } from "../../shared/redis/connections.ts";
import type { Script } from "../../shared/redis/scripts.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { moveSlots, startMover, startTwoCells, type TwoCells } from "../support/cells.ts";
import { repeat } from "../support/repeat.ts";

const mebibyte = 1 << 20;

let twoCells: TwoCells;
let mine: Stores;
let a: RedisConnections;
let b: RedisConnections;
let mover: CellMover;

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  const [first, second] = [...(mine.cells?.all.values() ?? [])];
  if (!first || !second) throw new Error("there are no two cells");
  [a, b] = [first, second];
  mover = await startMover(mine);
});
afterAll(async () => {
  await mover.stop();
  await twoCells.stop();
});

/** Numbers that publications of this test begin with. */
function numbersOf(publications: readonly { data: string }[]): number[] {
  return publications.map(({ data }) => Number.parseInt(JSON.parse(data) as string, 10));
}

async function loggedNumbers(slot: number): Promise<number[]> {
  const numbers: number[] = [];
  let from: ReadFrom = { kind: "start" };
  for (;;) {
    const [read] = await mine.changeLog.read([{ slot, from }], { limit: 1_000, maxBytes: 2 * mebibyte });
    if (!read) throw new Error("the slot was not looked at");
    numbers.push(...numbersOf(read.changes));
    if (read.place === read.newest) return numbers;
    from = { kind: "after", place: read.place };
  }
}

test("CELL-15: a long history and change log move in parts under publishes, and stay complete", async () => {
  const channel = "board:long";
  const slot = slotOf(channel);
  const retention = { historySize: 2_000, historySeconds: 300 };
  const changes = { maxBytes: 4 * mebibyte, maxSeconds: 600, unclaimedSeconds: 600 };
  let published = 0;
  const publishSome = async (): Promise<void> => {
    const some = Array.from({ length: 10 }, async () => {
      // DUMP compresses, and random data least.
      const data = JSON.stringify(`${published++} ${randomBytes(750).toString("base64")}`);
      await mine.broker.publish({ channel, event: "moved", data, retention, changes });
    });
    await Promise.all(some);
  };
  // Past the cap, so that the log loses its head as it grows.
  while (published < 4_500) await publishSome();
  // The servers refuse larger arguments, as RESTORE of the whole stream.
  for (const cell of [a, b]) await cell.run("config", "SET", "proto-max-bulk-len", mebibyte);
  const publishing = repeat(publishSome);
  await moveSlots(mine, "b", [slot]);
  const { log } = changeKeys(b.root, slot);
  const { history } = channelKeys(b.root, channel);
  for (const stream of [log, history]) expect(await b.run("pttl", stream)).toBeGreaterThan(0);
  await moveSlots(mine, "a", [slot]);
  await publishing.stop();
  const lastOnes = (count: number): number[] => Array.from({ length: count }, (_, at) => published - count + at);
  const logged = await loggedNumbers(slot);
  expect(logged.length).toBeGreaterThan(3_000);
  expect(logged).toEqual(lastOnes(logged.length));
  const figures = await mine.changeLog.figures();
  expect(figures.find((each) => each.slot === slot)?.changes).toBe(logged.length);
  const kept = await mine.broker.readHistory({ channel, retention, limit: 10_000, maxBytes: 8 * mebibyte });
  expect(numbersOf(kept.publications)).toEqual(lastOnes(retention.historySize));
});

test("CELL-15: a history and a log that begin again while they are copied replace what was copied", async () => {
  const channel = "board:again";
  const slot = slotOf(channel);
  const retention = { historySize: 350, historySeconds: 300 };
  const changes = { maxBytes: mebibyte, maxSeconds: 600, unclaimedSeconds: 600 };
  const publish = async (count: number, text: string): Promise<void> => {
    for (let n = 1; n <= count; n++) {
      await mine.broker.publish({ channel, event: "e", data: `"${n} ${text}"`, retention, changes });
    }
  };
  const { state, history } = channelKeys(a.root, channel);
  const { log } = changeKeys(a.root, slot);
  await publish(300, "first");
  // Its id is past those of the other moves.
  const copy = new SlotCopy({ source: a, target: b, move: { id: 1_000_000, slots: [slot] } });
  await copy.copyWhileOpen(1_000_000);
  expect(await b.run("xlen", history)).toBe(300);
  // As if both had expired. The new history has an entry of the id where the copy ended.
  for (const key of [state, log]) await a.run("del", key);
  await publish(400, "second");
  await copy.finish(1_000_001);
  await copy.stop();
  for (const stream of [history, log]) {
    const entries = await a.run<unknown[]>("xrange", stream, "-", "+");
    expect(entries.length).toBeGreaterThan(300);
    expect(await b.run("xrange", stream, "-", "+")).toEqual(entries);
  }
});

test("CELL-4: what is copied in the last millisecond of its time does not live for ever", async () => {
  const channel = "board:ending";
  const slot = slotOf(channel);
  const retention = { historySize: 350, historySeconds: 300 };
  for (let n = 1; n <= 300; n++) await mine.broker.publish({ channel, event: "e", data: String(n), retention });
  await mine.broker.publish({ channel, event: "e", data: "301", id: "last", retention });
  const { state, history } = channelKeys(a.root, channel);
  const run = a.run.bind(a) as (command: string | Script<unknown>, ...values: Argument[]) => Promise<unknown>;
  const reading = vi.spyOn(a, "run") as unknown as MockInstance<typeof run>;
  // Redis keeps a key for the whole millisecond of its end, and says that 0 ms are left.
  reading.mockImplementation(async (command, ...values) => {
    if (command === "pttl") return 0;
    const reply = await run(command, ...values);
    const isPart = typeof command !== "string" && command.name.includes("read-stream");
    return isPart ? (reply as unknown[]).with(3, 0) : reply;
  });
  const copy = new SlotCopy({ source: a, target: b, move: { id: 1_000_001, slots: [slot] } });
  await copy.copyWhileOpen(1_000_001);
  await copy.stop();
  reading.mockRestore();
  expect(copy.copied).toBeGreaterThanOrEqual(3);
  const noEnd = -1;
  const id = idempotencyKey(b.root, "publication", channel, "last");
  for (const key of [state, history, id]) expect(await b.run("pttl", key)).not.toBe(noEnd);
});
