/** A hash slot of a Redis Cluster moves while events of its keys are stored and delivered. */
import { afterEach, expect, test } from "vitest";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { beginSlotMove, hashSlotOf, type RedisCluster, startRedisCluster } from "../support/redis-cluster.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let cluster: RedisCluster;
let service: HttpService;
let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await service.stop();
  await cluster.stop();
});

const key = "moving";

/** Emits the next item until it is accepted. */
async function emit(client: StockClient, n: number): Promise<void> {
  await eventually(async () => (await client.request("edit", { key, n }, { id: `${n}` })).ok);
}

function numbers(): number[] {
  return service.requests.map(({ body }) => (JSON.parse(body) as { n: number }).n);
}

test("QFAIL-7: a hash slot that moves under load keeps its queues whole and in order", async () => {
  [cluster, service] = await Promise.all([startRedisCluster(), startService()]);
  fleet = await startFleet({
    target: cluster.target,
    gateways: 2,
    rules: {
      services: { documents: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "edit", service: "documents", path: "/", mode: "enqueue", key: "/key" }],
    },
  });
  const client = await connectClient(fleet.urls[0] ?? "");
  let emitted = 0;
  const emitting = repeat(async () => emit(client, ++emitted));
  await eventually(() => numbers().length >= 5);

  const slot = hashSlotOf(String(slotOfQueue({ service: "documents", tenant: "", key })));
  const move = await beginSlotMove(cluster, slot);
  // One key at a time: events meet the queue on its way.
  for (let keys = await move.keys(1); keys.length > 0; keys = await move.keys(1)) await move.moveKeys(keys);
  await move.end();
  await emitting.stop();
  await emit(client, ++emitted);
  await eventually(() => numbers().includes(emitted));
  const arrived = [...new Set(numbers())];
  expect(arrived).toEqual(Array.from({ length: emitted }, (_, at) => at + 1));
  expect(numbers()).toEqual(numbers().toSorted((a, b) => a - b));
});
