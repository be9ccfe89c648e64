/** Two deployments on one Redis with the same users, channels and node names stay separate. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisServer;
let cluster: RedisCluster;

beforeAll(async () => {
  [redis, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(async () => {
  await Promise.all([redis.stop(), cluster.stop()]);
});
afterEach(closeClients);

const budgetPerSecond = 1_000;
const channel = "room:1";

const cases: { name: string; targets: () => [RedisTarget, RedisTarget]; roots: [string, string] }[] = [
  {
    name: "two databases",
    targets: () => [
      { kind: "standalone", url: `${redis.url}/1` },
      { kind: "standalone", url: `${redis.url}/2` },
    ],
    roots: ["tidegate@1:{", "tidegate@2:{"],
  },
  {
    name: "one database, two prefixes",
    targets: () => [
      { kind: "standalone", url: redis.url },
      { kind: "standalone", url: redis.url, prefix: "tidegate:staging" },
    ],
    roots: ["tidegate:{", "tidegate:staging:{"],
  },
  {
    name: "a cluster, two prefixes",
    targets: () => [
      { ...cluster.target, prefix: "blue" },
      { ...cluster.target, prefix: "green" },
    ],
    roots: ["blue:{", "green:{"],
  },
];

describe.each(cases)("$name", ({ targets, roots }) => {
  let here: Fleet;
  let there: Fleet;

  beforeAll(async () => {
    const [first, second] = targets();
    const start = async (target: RedisTarget): Promise<Fleet> =>
      startFleet({
        target,
        environment: { GATEWAY_ADMISSIONS_PER_SECOND: String(budgetPerSecond), GATEWAY_SESSIONS_PER_USER: "2" },
        rules: { namespaces: { room: { presence: true, joinLeave: true, access: "user" } } },
      });
    [here, there] = [await start(first), await start(second)];
  });
  afterAll(async () => {
    await Promise.all([here, there].map(async (fleet) => fleet.stop()));
  });

  async function connectBoth(sub: string): Promise<[StockClient, StockClient]> {
    const both = [
      await connectClient(here.urls[0] ?? "", { sub }),
      await connectClient(there.urls[0] ?? "", { sub }),
    ] as const;
    for (const client of both) await client.subscribe(channel);
    return [...both];
  }

  /** A later message on the same paths proves that nothing else was under way. */
  async function settle(sub: string, clients: readonly StockClient[]): Promise<void> {
    for (const fleet of [here, there]) {
      await fleet.api("POST", "/v1/publish", { channel, event: "last", data: 1 });
      await fleet.api("POST", `/v1/users/${sub}/send`, { event: "last", data: 2 });
    }
    for (const client of clients) {
      await client.next(({ event, data }) => event === "last" && data === 1);
      await client.next(({ event, data }) => event === "last" && data === 2);
    }
  }

  function seen({ received }: StockClient): string[] {
    return received.filter(({ event }) => event !== "last").map(({ event }) => event);
  }

  test("KEY-2: publications, ephemeral ones and messages to a user stay in their deployment", async () => {
    const clients = await connectBoth("ada");
    await here.api("POST", "/v1/publish", { channel, event: "stored", data: 1 });
    await here.api("POST", "/v1/publish", { channel, event: "ephemeral", data: 1, history: false });
    await here.api("POST", "/v1/users/ada/send", { event: "note", data: 1 });
    await settle("ada", clients);
    const events = clients.map((client) => seen(client).filter((event) => !event.startsWith("sync:")));
    // Messages to a user have another topic than the channel: in a cluster they come over another connection.
    const ofChannel = events.map((all) => all.filter((event) => event !== "note"));
    expect(ofChannel).toEqual([["stored", "ephemeral"], []]);
    expect(events.map((all) => all.filter((event) => event === "note"))).toEqual([["note"], []]);
  });

  test("KEY-2: a channel has its own history and ids in each deployment", async () => {
    const item = { channel: "room:own", event: "moved", data: 1, id: "once" };
    const answers = [await here.api("POST", "/v1/publish", item), await there.api("POST", "/v1/publish", item)];
    expect(answers.map(({ body }) => body)).toEqual([
      { epoch: expect.any(String) as string, offset: 1 },
      { epoch: expect.any(String) as string, offset: 1 },
    ]);
    expect(answers[0]?.body["epoch"]).not.toBe(answers[1]?.body["epoch"]);
  });

  test("KEY-2: sessions, presence and its bound are separate per deployment", async () => {
    const clients = await connectBoth("bob");
    const second = await connectClient(here.urls[0] ?? "", { sub: "bob" });
    await second.subscribe(channel);
    for (const [fleet, connections] of [
      [here, 2],
      [there, 1],
    ] as const) {
      const { body } = await fleet.api("GET", `/v1/channels/${channel}/presence`);
      expect(body["members"]).toContainEqual({ user: "bob", connections });
      expect((await fleet.api("GET", "/v1/users/bob/sessions")).body["sessions"]).toHaveLength(connections);
    }
    await settle("bob", clients);
    const joins = clients.map((client) => seen(client).filter((event) => event === "sync:join"));
    expect(joins).toEqual([["sync:join"], ["sync:join"]]);
  });

  test("KEY-2: a disconnect and its revocation affect one deployment", async () => {
    const [gone, stays] = await connectBoth("eve");
    await here.api("POST", "/v1/users/eve/disconnect", {});
    await gone.disconnected;
    await settle("eve", [stays]);
    expect(stays.socket.connected).toBe(true);
    stays.socket.disconnect();
    const resumed = await connectClient(
      there.urls[0] ?? "",
      {},
      { token: undefined, resume: stays.welcome.resumeToken },
    );
    expect(resumed.welcome).toMatchObject({ resumed: true, user: "eve" });
  });

  test("KEY-2: rules and rollouts change in one deployment only", async () => {
    const { body: before } = await there.api("GET", "/v1/rules");
    const put = await here.api("PUT", "/v1/rules", { namespaces: { other: {} } });
    await here.api("PUT", "/v1/rollouts", { groups: [], fallback: { name: "here" } });
    await eventually(async () => (await metricOf(here.gateways[0], "rules_version")) === put.body["version"]);
    expect((await there.api("GET", "/v1/rules")).body).toEqual(before);
    expect(await metricOf(there.gateways[0], "rules_version")).toBe(before["version"]);
    expect((await there.api("GET", "/v1/rollouts")).body["version"]).toBe(0);
  });

  test("KEY-2: nodes of two deployments with one name share no registry, budget or drain", async () => {
    const nodesOf = async (fleet: Fleet) => (await fleet.api("GET", "/v1/nodes")).body["nodes"] as object[];
    const whole = { node: "node-1", state: "ready", admissionsPerSecond: budgetPerSecond * 0.9 };
    for (const fleet of [here, there]) {
      await eventually(async () => (await nodesOf(fleet)).length === 1);
      expect(await nodesOf(fleet)).toMatchObject([whole]);
    }
    await here.api("POST", "/v1/nodes/node-1/drain");
    await eventually(async () => (await nodesOf(here)).some((node) => "drain" in node));
    expect(await nodesOf(there)).toMatchObject([whole]);
  });

  test("KEY-2: every key and topic begins with prefix and database", async () => {
    const ports = targets().flatMap((target) =>
      target.kind === "cluster" ? cluster.servers.map(({ port }) => port) : [redis.port],
    );
    const names = await Promise.all([...new Set(ports)].map(namesAt));
    const own = names.flat().filter((text) => roots.some((root) => text.startsWith(root)));
    expect(new Set(own.map((text) => roots.find((root) => text.startsWith(root))))).toEqual(new Set(roots));
    const others = cases.flatMap((other) => other.roots);
    expect(names.flat().filter((text) => !others.some((root) => text.startsWith(root)))).toEqual([]);
  });
});

/** Keys of all databases, and followed topics. */
async function namesAt(port: number): Promise<string[]> {
  const client = new Redis({ port });
  const topics = (await client.call("pubsub", "shardchannels")) as string[];
  const keys: string[] = [];
  for (const database of [0, 1, 2]) {
    if (database > 0 && ((await client.call("info", "cluster")) as string).includes("cluster_enabled:1")) break;
    await client.select(database);
    keys.push(...(await client.keys("*")));
  }
  client.disconnect();
  return [...topics, ...keys];
}
