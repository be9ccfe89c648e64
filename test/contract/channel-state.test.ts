/** How long a channel keeps its epoch and offset. */
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import type { ChannelBroker, Position } from "../../shared/channels/contract.ts";
import { channelKeys } from "../../shared/channels/keys.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedis } from "../support/redis.ts";

const channel = "board:1";
const retention = { historySize: 10, historySeconds: 300 };
const keptSeconds = { empty: 3_600, published: 300 + 86_400 };

async function positionIn(broker: ChannelBroker): Promise<Position> {
  return (await broker.readHistory({ channel, retention, limit: 0, maxBytes: 0 })).position;
}

afterEach(() => {
  vi.restoreAllMocks();
});

test.each(["empty", "published"] as const)("CH-2: in memory, the state of a channel ends in time: %s", async (kind) => {
  let now = 1_000_000;
  vi.spyOn(Date, "now").mockImplementation(() => now);
  const broker = new MemoryBroker(quietErrors);
  if (kind === "published") await broker.publish({ channel, event: "moved", data: "{}", retention });
  const begun = await positionIn(broker);
  now += (keptSeconds[kind] - 1) * 1_000;
  expect(await positionIn(broker)).toEqual(begun);
  now += keptSeconds[kind] * 1_000;
  expect((await positionIn(broker)).epoch).not.toBe(begun.epoch);
});

test("CH-2: on Redis, the state of a channel is kept as long as in memory", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const target = { kind: "standalone", url: redis.url } as const;
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  onTestFinished(() => connections.stop());
  const cells = new Cells(connections);
  const broker = new RedisBroker({ cells, logger: quietLogger });
  const cell = cells.of(channel);
  const leftSeconds = async (): Promise<number> => cell.run<number>("ttl", channelKeys(cell.root, channel).state);
  await positionIn(broker);
  const isAbout = (seconds: number, expected: number): boolean => seconds <= expected && seconds > expected - 60;
  expect(isAbout(await leftSeconds(), keptSeconds.empty)).toBe(true);
  await broker.publish({ channel, event: "moved", data: "{}", retention });
  expect(isAbout(await leftSeconds(), keptSeconds.published)).toBe(true);
});
