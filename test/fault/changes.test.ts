/** Readers of the change log while Redis loses data, fails over, or moves a hash slot. */
import { afterEach, expect, test } from "vitest";
import { slotOf } from "../../shared/redis/slots.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { changesOf, isGap, pull, pullAll, type PullAnswer } from "../support/change-puller.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type LonePrivateApi, startPrivateApi } from "../support/private-api.ts";
import { beginSlotMove, hashSlotOf, startRedisCluster } from "../support/redis-cluster.ts";
import { asked, dieAhead, freezeReplicas } from "../support/redis-failover.ts";
import { startRedisSentinel } from "../support/redis-sentinel.ts";
import { startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";

const rules = { namespaces: { board: { changes: true } } };
const channel = "board:1";
const begun: { stop(): Promise<void> }[] = [];

afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

function stopLater<Started extends { stop(): Promise<void> }>(started: Started): Started {
  begun.push(started);
  return started;
}

/** Two private APIs. */
async function startApis(target: RedisTarget): Promise<[Fleet, LonePrivateApi]> {
  const fleet = stopLater(await startFleet({ target, gateways: 0, rules }));
  return [fleet, stopLater(await startPrivateApi(target))];
}

/** Retries with one id until the publish succeeds. */
async function publish(fleet: Fleet, data: unknown): Promise<void> {
  const item = { channel, event: "moved", data, id: String(data) };
  await eventually(async () => (await fleet.api("POST", "/v1/publish", item)).status === 200);
}

/** Pulls until an answer has something. */
async function pulledSoon(apiUrl: string, cursor: string): Promise<PullAnswer> {
  let answer: PullAnswer | undefined;
  await eventually(async () => {
    answer = await pull(apiUrl, { channels: channel, cursor }).catch(() => undefined);
    return (answer?.changes.length ?? 0) > 0;
  });
  return answer as PullAnswer;
}

function dataOf({ changes }: PullAnswer): unknown[] {
  return changesOf(changes, channel).map(({ data }) => data);
}

test("CHG-5: where Redis restarts without its data, readers get a gap, then what is published since", async () => {
  const redis = stopLater(await startRedis());
  const [fleet, second] = await startApis({ kind: "standalone", url: redis.url });
  for (const data of [1, 2]) await publish(fleet, data);
  const { cursor } = await pull(second.url, { channels: channel });
  await redis.kill();
  await redis.restart();
  const lost = await pulledSoon(second.url, cursor);
  expect(lost.changes).toEqual([{ gap: { channel, from: expect.any(Number), to: expect.any(Number) } }]);
  await eventually(async () => (await fleet.api("PUT", "/v1/rules", rules)).status === 200);
  await publish(fleet, 3);
  expect(dataOf(await pulledSoon(second.url, lost.cursor))).toEqual([3]);
  const late = await pulledSoon(second.url, cursor);
  expect([late.changes.filter(isGap).length, dataOf(late)]).toEqual([1, [3]]);
});

test("CHG-13: a restart of Redis that loses nothing leaves no gap, and readers get what follows", async () => {
  const redis = stopLater(await startRedis({ appendOnly: true }));
  const [fleet, second] = await startApis({ kind: "standalone", url: redis.url });
  await publish(fleet, 1);
  const { cursor } = await pull(second.url, { channels: channel });
  await redis.kill();
  await redis.restart();
  await publish(fleet, 2);
  const next = await pulledSoon(second.url, cursor);
  expect(next.changes).toMatchObject([{ data: 2, offset: expect.any(Number), prev: 1 }]);
  const all = await pullAll([fleet.apiUrl, second.url], { channels: channel });
  expect([dataOf(all), all.changes.filter(isGap)]).toEqual([[1, 2], []]);
});

test("CHG-5: after a failover that lost writes, only readers that saw them get a gap; nothing is passed over", async () => {
  const redis = stopLater(await startRedisSentinel());
  const [fleet, second] = await startApis(redis.target);
  await publish(fleet, "kept");
  const former = await redis.primary();
  await eventually(async () => (await asked(former, (client) => client.wait(1, 1_000))) === 1);
  const behind = await pull(second.url, { channels: channel });
  const replicas = redis.servers.filter((server) => server !== former);
  await freezeReplicas(former, replicas);
  await publish(fleet, "lost");
  const ahead = await pull(second.url, { channels: channel });
  expect(dataOf(ahead)).toEqual(["kept", "lost"]);
  await dieAhead(former, replicas);
  await redis.promoted(former);
  await publish(fleet, "after");
  const next = await pulledSoon(second.url, ahead.cursor);
  expect([next.changes.filter(isGap).length, dataOf(next)]).toEqual([1, ["after"]]);
  const calm = await pulledSoon(second.url, behind.cursor);
  expect([calm.changes.filter(isGap).length, dataOf(calm)]).toEqual([0, ["after"]]);
  await publish(fleet, "last");
  for (const { cursor } of [next, calm]) expect(dataOf(await pulledSoon(second.url, cursor))).toEqual(["last"]);
});

test("CHG-13: a hash slot of a cluster that moves under load keeps its log whole and in order", async () => {
  const cluster = stopLater(await startRedisCluster());
  const [fleet, second] = await startApis(cluster.target);
  let published = 0;
  const publishing = repeat(async () => publish(fleet, ++published));
  await eventually(() => published > 5);
  const { cursor } = await pull(second.url, { channels: channel });
  const move = await beginSlotMove(cluster, hashSlotOf(String(slotOf(channel))));
  for (let keys = await move.keys(1); keys.length > 0; keys = await move.keys(1)) await move.moveKeys(keys);
  await move.end();
  await publishing.stop();
  await publish(fleet, ++published);
  await eventually(async () => {
    const all = await pullAll([fleet.apiUrl, second.url], { channels: channel }).catch(() => undefined);
    return all !== undefined && dataOf(all).at(-1) === published;
  });
  const all = await pullAll([fleet.apiUrl, second.url], { channels: channel });
  expect([dataOf(all), all.changes.filter(isGap)]).toEqual([Array.from({ length: published }, (_, n) => n + 1), []]);
  expect((await pullAll([second.url], { channels: channel, cursor })).changes.filter(isGap)).toEqual([]);
});

test("CHG-4: a reader that is slower than the log is cut gets each change once and in order, or a gap in its place", async () => {
  const redis = stopLater(await startRedis());
  const target = { kind: "standalone", url: redis.url } as const;
  const environment = { CHANGES_MAX_BYTES: "100000" };
  const fleet = stopLater(await startFleet({ target, gateways: 0, rules, environment }));
  const second = stopLater(await startPrivateApi(target, environment));
  let offset = 0;
  let gaps = 0;
  let { cursor } = await pull(second.url, { channels: channel, cursor: "end" });
  for (let round = 0; round < 40; round++) {
    await fleet.api(
      "POST",
      "/v1/publish/batch",
      Array.from({ length: 50 }, () => ({ channel, event: "moved", data: "x".repeat(400) })),
    );
    const answer = await pull(second.url, { channels: channel, cursor, limit: 20 });
    let afterGap = false;
    for (const item of answer.changes) {
      if (isGap(item)) {
        afterGap = true;
        gaps++;
      } else {
        if (!afterGap) expect(item.offset).toBe(offset + 1);
        else expect(item.offset).toBeGreaterThan(offset + 1);
        offset = item.offset;
        afterGap = false;
      }
    }
    ({ cursor } = answer);
  }
  expect(gaps).toBeGreaterThan(0);
  const rest = await pullAll([second.url, fleet.apiUrl], { channels: channel, cursor });
  expect(changesOf(rest.changes, channel).at(-1)?.offset).toBe(2_000);
});
