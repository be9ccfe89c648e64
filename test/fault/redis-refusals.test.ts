/** A Redis that answers, and refuses. */
import { afterEach, expect, test } from "vitest";
import { channelKeys } from "../../shared/channels/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet } from "../support/fleet.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await redis.stop();
});

const channel = "board:1";
const rules = { namespaces: { board: { presence: true, joinLeave: true } } };

async function publish(data: unknown, more: object = {}): Promise<ApiAnswer> {
  return fleet.api("POST", "/v1/publish", { channel, event: "moved", data, ...more });
}

async function set(name: string, value: string): Promise<void> {
  await asked(redis, (client) => client.config("SET", name, value));
}

function expectRefused({ status, body, headers }: ApiAnswer): void {
  expect([status, body["code"], headers.get("retry-after")]).toEqual([503, "broker_unavailable", "1"]);
}

test("RED-4: with Redis's memory used up publishes are 503 and write nothing; reading, leaving and revoking go on", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2, rules });
  const [stays, leaves, ends] = [
    await connectClient(fleet.urls[0] ?? "", { sub: "stays" }),
    await connectClient(fleet.urls[1] ?? "", { sub: "leaves" }),
    await connectClient(fleet.urls[1] ?? "", { sub: "ends" }),
  ];
  for (const client of [stays, leaves, ends]) await client.subscribe(channel);
  const before = (await publish("before")).body;
  await set("maxmemory", "1");

  const large = "x".repeat(60_000);
  const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => publish(large, n % 2 ? { id: `${n}` } : {})));
  for (const answer of answers) expectRefused(answer);
  expectRefused(await publish(large, { history: false, id: "ephemeral" }));
  const { state, history } = channelKeys(channel);
  const stored = await asked(redis, async (client) => [await client.xlen(history), await client.hget(state, "offset")]);
  expect(stored).toEqual([1, "1"]);
  expect(await asked(redis, (client) => client.keys("*:id:*"))).toEqual([]);

  const read = await fleet.api("GET", `/v1/channels/${channel}/history?after=0`);
  expect([read.status, read.body["position"]]).toEqual([200, before]);
  expect((await stays.subscribe(channel, { epoch: String(before["epoch"]), offset: 0 })).recovered).toBe(true);
  expectRefused(await fleet.api("GET", "/v1/channels/board:unknown/history"));
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken({ sub: "new" }) });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });

  expect((await leaves.request("sync:unsubscribe", { channel })).ok).toBe(true);
  await stays.next(({ event, data }) => event === "sync:leave" && (data as { user: string }).user === "leaves");
  expect((await fleet.api("POST", "/v1/users/ends/disconnect", {})).status).toBe(202);
  expect(await ends.disconnected).toBe("io server disconnect");
  await eventually(async () => {
    const { body } = await fleet.api("GET", "/v1/users/ends/sessions");
    return (body["sessions"] as unknown[]).length === 0;
  });

  await set("maxmemory", "0");
  const after = await publish("after");
  expect([after.status, after.body]).toEqual([200, { epoch: before["epoch"], offset: 2 }]);
  await stays.next(({ data }) => data === "after");
  expect(stays.received.filter(({ event }) => event === "moved").map(({ data }) => data)).toEqual(["before", "after"]);
});
