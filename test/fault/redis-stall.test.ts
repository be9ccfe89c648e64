/** A Redis that hangs under load with its connections open. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { RedisSessionStore } from "../../shared/sessions/redis.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet | undefined;
let connections: RedisConnections | undefined;
afterEach(async () => {
  redis.signal("SIGCONT");
  closeClients();
  await fleet?.stop();
  await connections?.stop();
  [fleet, connections] = [undefined, undefined];
  await redis.stop();
});

const channel = "board:1";
const retention = { historySize: 100_000, historySeconds: 300 };
const maxPending = 20_000;

/** To a Redis of its own. */
async function connect(): Promise<RedisConnections> {
  redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  const own = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  connections = own;
  await own.start();
  return own;
}

test("STALL-1: a hanging Redis gets no further publishes, and refused ones never appear", async () => {
  const own = await connect();
  const broker = new RedisBroker({ cells: new Cells(own), logger: quietLogger });
  await broker.start();
  const outcomes = new Map<number, "published" | "refused" | "unknown">();
  let next = 0;
  const publish = async (): Promise<void> => {
    const number = next++;
    try {
      await broker.publish({ channel, event: "n", data: String(number), retention });
      outcomes.set(number, "published");
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      expect([error.code, error.retryable]).toEqual(["broker_unavailable", true]);
      expect(error.options.retryAfterMs).toBeGreaterThan(0);
      outcomes.set(number, error.cause === undefined ? "refused" : "unknown");
    }
  };
  const count = (kind: string): number => [...outcomes.values()].filter((outcome) => outcome === kind).length;
  await Promise.all(Array.from({ length: 200 }, publish));
  expect(count("published")).toBe(200);

  redis.signal("SIGSTOP");
  const pending = new Set<Promise<void>>();
  let mostPending = 0;
  // More per turn than Redis normally gets: it piles up until the stall is detected.
  await eventually(() => {
    for (let i = 0; i < 100; i++) {
      const one: Promise<void> = publish().finally(() => pending.delete(one));
      pending.add(one);
    }
    mostPending = Math.max(mostPending, own.pendingCommands);
    return count("refused") > 1_000 && count("unknown") > 0;
  });
  expect(mostPending).toBeLessThanOrEqual(maxPending);
  await Promise.all(pending);
  expect(own.pendingCommands).toBe(0);
  expect(own.state).toBe("away");

  redis.signal("SIGCONT");
  await eventually(async () => {
    await publish();
    return outcomes.get(next - 1) === "published";
  });
  await eventually(() => own.state === "ok");
  const slice = await broker.readHistory({ channel, retention, after: 0, limit: 100_000, maxBytes: 1 << 30 });
  const stored = slice.publications.map(({ data }) => Number(data));
  expect(new Set(stored).size).toBe(stored.length);
  expect(stored.filter((number) => outcomes.get(number) === "refused")).toEqual([]);
  expect([...outcomes].filter(([n, outcome]) => outcome === "published" && !stored.includes(n))).toEqual([]);
});

test("RED-3: a publish under way when Redis is killed may have taken effect, and says so", async () => {
  const own = await connect();
  const broker = new RedisBroker({ cells: new Cells(own), logger: quietLogger });
  await broker.start();
  redis.signal("SIGSTOP");
  const refused = broker.publish({ channel, event: "n", data: "1", retention }).then(
    () => undefined,
    (error: unknown) => error,
  );
  // Commands of one turn leave at its end.
  await nextTurn();
  await redis.kill();
  expect(await refused).toMatchObject({
    ...{ code: "broker_unavailable", retryable: true },
    message: expect.stringContaining("may have taken effect") as string,
  });
});

test("STALL-3: commands to a hanging primary never run after its connection was cut", async () => {
  redis = await startRedis();
  const cluster = await startRedisCluster();
  for (const target of [{ kind: "standalone", url: redis.url } as const, cluster.target]) {
    const own = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
    const broker = new RedisBroker({ cells: new Cells(own), logger: quietLogger });
    await own.start();
    await broker.start();
    const publish = async (data: number): Promise<string> =>
      broker.publish({ channel, event: "n", data: String(data), retention }).then(
        () => "published",
        () => "failed",
      );
    expect(await publish(0)).toBe("published");
    let primary = redis;
    for (const server of target.kind === "cluster" ? cluster.servers : []) {
      if ((await asked(server, (client) => client.dbsize())) > 0) primary = server;
    }
    primary.signal("SIGSTOP");
    // The timeout cuts the connection.
    expect(await publish(1)).toBe("failed");
    const late = await Promise.all(Array.from({ length: 100 }, (_, n) => publish(2 + n)));
    expect(new Set(late)).toEqual(new Set(["failed"]));
    primary.signal("SIGCONT");
    await eventually(async () => (await publish(1_000)) === "published");
    const slice = await broker.readHistory({ channel, retention, limit: 1_000, maxBytes: 1 << 20 });
    const stored = slice.publications.map(({ data }) => Number(data)).filter((data) => data > 1 && data < 1_000);
    expect(stored).toEqual([]);
    await own.stop();
  }
  await cluster.stop();
});

test("RES-7: a resume that Redis executes after it hung does not outrank what its node decided without Redis", async () => {
  const own = await connect();
  const store = new RedisSessionStore(new Cells(own));
  for (const holder of ["before", "after"]) await store.renewLease(holder, { fresh: true });
  const session = { sessionId: "s", user: "ada", node: "one" };
  const begun = await store.claim({ ...session, mode: "begin", claim: 0, checkedAt: 0, holder: "before" });
  if (begun.kind !== "held") throw new Error(begun.kind);
  const { claim, checkedAt } = begun;

  redis.signal("SIGSTOP");
  const resume = store.claim({ ...session, mode: "resume", claim, checkedAt, holder: "before" });
  await expect(resume).rejects.toMatchObject({ code: "broker_unavailable" });
  const decided = Math.max(store.now(), claim + 1);
  redis.signal("SIGCONT");
  const key = `tidegate:{${slotOf("ada")}}:sessions:ada`;
  const record = async (): Promise<string> => (await asked(redis, (client) => client.hget(key, "s"))) ?? "";
  await eventually(async () => Number((await record()).split(" ")[0]) > claim);
  await eventually(() => own.state === "ok");

  const announced = { ...session, mode: "announce", claim: decided, checkedAt, holder: "after" } as const;
  expect(await store.claim(announced)).toMatchObject({ kind: "held", claim: decided });
});

test("STALL-4: after an unsubscribe that timed out, others and subscribes succeed", async () => {
  const { topics } = await connect();
  const topic = (name: string): string => `tidegate:{1}:channel:${name}`;
  await topics.subscribeAll(["a", "b", "c"].map(topic));
  redis.signal("SIGSTOP");
  await expect(topics.unsubscribe(topic("a"))).rejects.toThrow("Command timed out");
  redis.signal("SIGCONT");
  await topics.unsubscribe(topic("b"));
  await topics.subscribe(topic("d"));
});

test("FAN-3: a topic whose subscribe timed out is not subscribed after the hang, unless it is wanted again", async () => {
  const { topics } = await connect();
  const topic = (name: string): string => `tidegate:{1}:channel:${name}`;
  redis.signal("SIGSTOP");
  const refused = ["refused", "wanted again"].map(topic);
  await expect(topics.subscribeAll(refused)).rejects.toThrow("Command timed out");
  redis.signal("SIGCONT");
  // Redis executes what the connection sent in its order.
  await topics.subscribe(topic("wanted again"));
  const subscribed = await asked(redis, (client) => client.call("pubsub", "shardchannels", topic("*")));
  expect(subscribed).toEqual([topic("wanted again")]);
});

test("STALL-2: while Redis hangs the API answers 503 with Retry-After, and connections stay", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  const { api } = fleet;
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  const publish = async (data: string) => api("POST", "/v1/publish", { channel, event: "moved", data });
  redis.signal("SIGSTOP");
  const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => publish(`stalled ${n}`)));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]));
  const refused = await publish("refused");
  expect([refused.status, refused.body["code"], refused.headers.get("retry-after")]).toEqual([
    503,
    "broker_unavailable",
    "1",
  ]);
  expect(client.socket.connected).toBe(true);
  redis.signal("SIGCONT");
  await eventually(async () => (await publish("after")).status === 200);
  await client.next(({ data }) => data === "after");
  expect(client.received.some(({ data }) => data === "refused")).toBe(false);
});
