/** Random publishes, ids, channels and caps: a reader at any pace gets exactly what followers got, or a gap. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import type { ChangeLog } from "../../shared/changes/contract.ts";
import { placeBeforeAll } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { RedisChangeLog } from "../../shared/changes/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { connectedRedis } from "../support/connected-redis.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const redis = connectedRedis();

type Step =
  | { kind: "publish"; channel: number; size: number; id?: number | undefined; maxBytes: number }
  | { kind: "ephemeral"; channel: number }
  | { kind: "read"; limit: number; maxBytes: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("publish" as const),
      channel: fc.nat(2),
      size: fc.nat(300),
      id: fc.option(fc.nat(3), { nil: undefined }),
      maxBytes: fc.constantFrom(600, 3_000, 1 << 20),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("ephemeral" as const), channel: fc.nat(2) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      limit: fc.integer({ min: 1, max: 8 }),
      maxBytes: fc.constantFrom(1, 500, 1 << 20),
    }),
  },
);

/** Three channels of one slot. */
function newChannels(): string[] {
  const first = `board:${randomUUID()}`;
  const channels = [first];
  for (let n = 0; channels.length < 3; n++) {
    const name = `${first}/${n}`;
    if (slotOf(name) === slotOf(first)) channels.push(name);
  }
  return channels;
}

async function check(broker: ChannelBroker, log: ChangeLog, steps: readonly Step[]): Promise<void> {
  const channels = newChannels();
  const slot = slotOf(channels[0] ?? "");
  const retention = { historySize: 0, historySeconds: 60 };
  const seen: string[] = [];
  broker.listen({
    onPublication: (channel, epoch, { offset, prev, event, data }) => {
      if (channels.includes(channel)) seen.push(JSON.stringify([channel, epoch, offset, prev, event, data]));
    },
    onEphemeral: () => undefined,
    onUserMessage: () => undefined,
    onRestored: () => undefined,
  });
  for (const name of channels) await broker.follow({ kind: "channel", name });
  const [begun] = await log.read([{ slot, from: { kind: "end" } }], { limit: 1, maxBytes: 1 });
  let place = begun?.place ?? placeBeforeAll;
  let stored = 0;
  /** Up to here of what followers saw, the reader has read or was told that it is missing. */
  let read = 0;

  async function readOnce(limit: number, maxBytes: number): Promise<boolean> {
    await eventually(() => seen.length === stored);
    const [found] = await log.read([{ slot, from: { kind: "after", place } }], { limit, maxBytes });
    if (!found) throw new Error("the slot was not looked at");
    const got = found.changes.map(({ channel, epoch, offset, prev, event, data }) =>
      JSON.stringify([channel, epoch, offset, prev, event, data]),
    );
    if (found.gap) {
      const next = got[0] === undefined ? seen.length : seen.indexOf(got[0]);
      expect(next).toBeGreaterThan(read);
      read = next;
    }
    expect(got).toEqual(seen.slice(read, read + got.length));
    read += got.length;
    ({ place } = found);
    expect(place === found.newest).toBe(read === seen.length);
    return place !== found.newest;
  }

  for (const each of steps) {
    const channel = each.kind === "read" ? "" : (channels[each.channel] ?? "");
    if (each.kind === "publish") {
      const outcome = await broker.publish({
        ...{ channel, event: "moved", data: JSON.stringify("x".repeat(each.size)), retention },
        ...(each.id !== undefined && { id: String(each.id) }),
        changes: { maxBytes: each.maxBytes, maxSeconds: 60, unclaimedSeconds: 60 },
      });
      if (outcome.kind === "published" && !outcome.duplicate) stored++;
    } else if (each.kind === "ephemeral") await broker.publishEphemeral({ channel, event: "moved", data: "1" });
    else await readOnce(each.limit, each.maxBytes);
  }
  while (await readOnce(100, 1 << 20));
  expect(read).toBe(seen.length);
}

describe("a reader gets what followers got, in order, or a gap", () => {
  test("CHG-2: in memory", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const log = new MemoryChangeLog();
        await check(new MemoryBroker(quietErrors, log), log, steps);
      }),
    );
  });

  test("CHG-2: on Redis", async () => {
    const cells = new Cells(redis.connections);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const broker = new RedisBroker({ cells, logger: quietLogger });
        await broker.start();
        await check(broker, new RedisChangeLog(cells), steps);
        await broker.stop();
      }),
      { numRuns: 40 },
    );
  });
});
