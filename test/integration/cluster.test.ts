/** Publish and subscribe on a Redis Cluster, with channels on all primaries. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
let fleet: Fleet;
beforeAll(async () => {
  cluster = await startRedisCluster();
  fleet = await startFleet({
    target: cluster.target,
    gateways: 2,
    rules: { namespaces: { board: { historySize: 50 } } },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await cluster.stop();
});

test("FAN-4: on a cluster, publications reach subscribers on both nodes once and in order", async () => {
  const channels = Array.from({ length: 30 }, (_, n) => `board:${n}`);
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await Promise.all(channels.map((channel) => client.subscribe(channel)));
  const items = Array.from({ length: 300 }, (_, n) => ({ channel: channels[n % 30], event: "moved", data: n }));
  const batch = await fleet.api("POST", "/v1/publish/batch", items);
  expect((JSON.parse(batch.text) as { offset?: number }[]).map(({ offset }) => offset)).toEqual(
    items.map((_, n) => Math.floor(n / 30) + 1),
  );
  await fleet.api("POST", "/v1/users/ada/send", { event: "note", data: 1 });
  for (const client of clients) {
    await eventually(() => client.received.length === 301);
    for (const channel of channels) {
      const own = client.received.filter(({ meta }) => (meta as { channel?: string }).channel === channel);
      expect(own.map(({ meta }) => (meta as { offset: number }).offset)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
  }
  const late = await connectClient(fleet.urls[0] ?? "");
  const { position } = await late.subscribe("board:7");
  const ack = await late.subscribe("board:7", { ...position, offset: 4 });
  expect(ack.publications.map(({ offset }) => offset)).toEqual([5, 6, 7, 8, 9, 10]);
});
