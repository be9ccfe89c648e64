/** Failovers under Sentinel, with and without lost writes. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Position } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { asked, dieAhead, freezeReplicas } from "../support/redis-failover.ts";
import { type RedisSentinel, startRedisSentinel } from "../support/redis-sentinel.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisSentinel;
let fleet: Fleet;
beforeEach(async () => {
  redis = await startRedisSentinel();
  fleet = await startFleet({ target: redis.target, gateways: 2 });
});
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await redis.stop();
});

const channel = "board:1";

async function publish(data: string): Promise<Position> {
  const answer = await fleet.api("POST", "/v1/publish", { channel, event: "moved", data });
  expect(answer.status, answer.text).toBe(200);
  return answer.body as unknown as Position;
}

/** Retries until the publish succeeds. */
async function published(data: string): Promise<Position> {
  let position: Position | undefined;
  await eventually(async () => {
    const answer = await fleet.api("POST", "/v1/publish", { channel, event: "moved", data });
    position = answer.body as unknown as Position;
    return answer.status === 200;
  });
  return position as Position;
}

/** Waits until the replicas have everything. */
async function copied(): Promise<void> {
  const primary = await redis.primary();
  await eventually(
    async () =>
      (await asked(primary, (client) => client.wait(redis.servers.length - 1, 1_000))) === redis.servers.length - 1,
  );
}

/** Waits until every node uses the current primary. */
async function recovered(): Promise<void> {
  await eventually(async () => {
    const health = await Promise.all(
      fleet.gateways.map(async ({ adminDoor }) => {
        const ready = await fetch(`http://127.0.0.1:${adminDoor.port}/readyz`);
        return ((await ready.json()) as { checks: { broker: string } }).checks.broker;
      }),
    );
    return health.every((status) => status === "ok");
  });
}

function resyncs(client: StockClient): unknown[] {
  return client.received.filter(({ event }) => event === "sync:resync").map(({ data }) => data);
}
function told(client: StockClient): unknown[] {
  return client.received.filter(({ event }) => event === "moved").map(({ data }) => data);
}

test("SENT-1: after a failover without loss, followers on all nodes continue without a resync", async () => {
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(channel);
  const before = await publish("before");
  await copied();
  const former = await redis.primary();
  await former.kill();
  await redis.promoted(former);
  const after = await published("after");
  expect(after.epoch).toBe(before.epoch);
  expect(after.offset).toBeGreaterThan(2 ** 20 - 1);
  for (const client of clients) {
    await client.next(({ data }) => data === "after");
    expect(told(client)).toEqual(["before", "after"]);
    expect(resyncs(client)).toEqual([]);
  }
});

test("SENT-2: a failover that lost writes resyncs only followers that are ahead of the survivor", async () => {
  const [url1 = "", url2 = ""] = fleet.urls;
  const [ahead, behind] = [await connectClient(url1), await connectClient(url2)];
  await ahead.subscribe(channel);
  await behind.subscribe(channel);
  const kept = await publish("kept");
  for (const client of [ahead, behind]) await client.next(({ data }) => data === "kept");
  await copied();
  const former = await redis.primary();
  const replicas = redis.servers.filter((server) => server !== former);
  behind.socket.disconnect();
  await freezeReplicas(former, replicas);
  const lost = [await publish("lost 1"), await publish("lost 2")];
  await ahead.next(({ data }) => data === "lost 2");
  await dieAhead(former, replicas);
  await redis.promoted(former);
  const after = await published("after");
  expect(lost.map(({ offset }) => offset)).not.toContain(after.offset);
  expect(after.offset).toBeGreaterThan(kept.offset + 2);

  await eventually(() => resyncs(ahead).length > 0);
  await published("last");
  await ahead.next(({ data }) => data === "last");
  expect(resyncs(ahead)).toEqual([
    { channel, reason: "position_ahead", position: { epoch: kept.epoch, offset: expect.any(Number) as number } },
  ]);
  await recovered();
  const returned = await connectClient(url2);
  const ack = await returned.subscribe(channel, kept);
  expect([ack.recovered, ack.publications.map(({ data }) => data)]).toEqual([true, ["after", "last"]]);
  const late = await connectClient(url1);
  const refused = await late.subscribe(channel, lost[1]);
  expect([refused.recovered, refused.reason]).toEqual([false, "position_ahead"]);

  // The former primary returns with the lost writes and must be ignored.
  await redis.whole();
  const next = await publish("next");
  expect(next.offset).toBe(after.offset + 2);
  for (const client of [ahead, returned]) await client.next(({ data }) => data === "next");
  expect(resyncs(returned)).toEqual([]);
});

test("SENT-3: a hanging primary that wakes up after another was promoted changes nothing", async () => {
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(channel);
  await publish("before");
  await copied();
  const former = await redis.primary();
  former.signal("SIGSTOP");
  await redis.promoted(former);
  const after = await published("after");
  former.signal("SIGCONT");
  await redis.whole();
  const next = await published("next");
  expect(next.offset).toBe(after.offset + 1);
  for (const client of clients) {
    await client.next(({ data }) => data === "next");
    expect(told(client)).toEqual(["before", "after", "next"]);
    expect(resyncs(client)).toEqual([]);
  }
});
