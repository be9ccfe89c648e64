/** A private API that moves slots was frozen for a moment, and has not read yet which keys have changed. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { SlotCopy } from "../../shared/cells/slot-copy.ts";
import { slotTag } from "../../shared/channels/keys.ts";
import type { Argument } from "../../shared/redis/client.ts";
import type { RedisConnections } from "../../shared/redis/connections.ts";
import type { KeyChanges } from "../../shared/redis/key-changes.ts";
import type { Script } from "../../shared/redis/scripts.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";

const slots = [7];

let twoCells: TwoCells;
let source: RedisConnections;
let target: RedisConnections;

beforeAll(async () => {
  twoCells = await startTwoCells();
  const [first, second] = [...((await twoCells.open()).cells?.all.values() ?? [])];
  if (!first || !second) throw new Error("there are no two cells");
  [source, target] = [first, second];
});
afterAll(async () => {
  await twoCells.stop();
});

/** An attempt that hears of changes when the test says so. */
interface Attempt {
  readonly copy: SlotCopy;
  /** The name of the marker that it has written. */
  readonly marker: Promise<string>;
  readonly report: (key: string) => void;
}

function attempt(): Attempt {
  const marked = Promise.withResolvers<string>();
  const waiting = new Map<string, () => void>();
  let changed = new Set<string>();
  const changes = {
    start: async () => undefined,
    stop: async () => undefined,
    covers: () => true,
    get count() {
      return changed.size;
    },
    take: () => {
      const taken = changed;
      changed = new Set();
      return taken;
    },
    arrival: async (key: string) => new Promise<void>((resolve) => waiting.set(key, resolve)),
  } as unknown as KeyChanges;
  const run = async <Reply>(command: string | Script<Reply>, ...values: Argument[]): Promise<Reply> => {
    const reply = await source.run(command, ...values);
    if (command === "set") marked.resolve(String(values[0]));
    return reply;
  };
  const members: Partial<RedisConnections> = { changesOf: () => [changes], run };
  const watched = new Proxy(source, {
    get: (_, name) => {
      if (name in members) return Reflect.get(members, name) as unknown;
      const member: unknown = Reflect.get(source, name, source);
      return typeof member === "function" ? member.bind(source) : member;
    },
  });
  return {
    copy: new SlotCopy({ source: watched, target, move: { id: 1, slots } }),
    marker: marked.promise,
    report: (key) => {
      changed.add(key);
      waiting.get(key)?.();
    },
  };
}

test("CELL-7: the marker of an attempt that was given up tells a later one nothing", async () => {
  const name = `${slotTag(source.root, 7)}:channel`;
  await source.run("set", name, "first");
  const [frozen, later] = [attempt(), attempt()];
  await frozen.copy.copyWhileOpen(20);
  await later.copy.copyWhileOpen(20);
  // It wakes.
  const ended = frozen.copy.finish(21);
  const foreign = await frozen.marker;
  frozen.report(foreign);
  await expect(ended).rejects.toThrow("another attempt");
  // The last write before the slot is closed.
  await source.run("set", name, "last");
  const finished = later.copy.finish(21);
  const own = await later.marker;
  // Redis has reported all three in this order, and the process reads them one after the other.
  later.report(foreign);
  await target.run("ping");
  later.report(name);
  later.report(own);
  await finished;
  expect(await target.run("get", name)).toBe("last");
});
