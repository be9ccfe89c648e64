/** Two gateway nodes and one private API on a real Redis: every subscriber gets every publication once and in order. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { topicName } from "../../shared/channels/keys.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;

beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: { namespaces: { board: { historySize: 2_000 }, tiny: { access: "user", historySize: 3 } } },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

async function clientOnEachNode(): Promise<[StockClient, StockClient]> {
  const [one = "", two = ""] = fleet.urls;
  return Promise.all([connectClient(one), connectClient(two)]);
}

function offsets(client: StockClient, channel: string): number[] {
  return client.received
    .map((item) => item.meta as { channel?: string; offset?: number } | undefined)
    .filter((meta) => meta?.channel === channel && meta.offset !== undefined)
    .map((meta) => meta?.offset ?? 0);
}

function upTo(n: number, from = 1): number[] {
  return Array.from({ length: n - from + 1 }, (_, i) => from + i);
}

async function publish(channel: string, data: unknown, more: object = {}): Promise<{ epoch: string; offset: number }> {
  const answer = await fleet.api("POST", "/v1/publish", { channel, event: "moved", data, ...more });
  expect(answer.status, answer.text).toBe(200);
  return answer.body as unknown as { epoch: string; offset: number };
}

test("FAN-1: subscribers on both nodes get the items of 50 concurrent publishers once, in order", async () => {
  const channel = "board:busy";
  const clients = await clientOnEachNode();
  for (const client of clients) await client.subscribe(channel);
  await Promise.all(
    upTo(50).map(async (publisher) => {
      for (const n of upTo(10)) await publish(channel, { publisher, n });
    }),
  );
  for (const client of clients) {
    await client.next((item) => (item.meta as { offset?: number }).offset === 500);
    expect(offsets(client, channel)).toEqual(upTo(500));
    for (const publisher of upTo(50)) {
      const own = client.received.map((item) => item.data as { publisher: number; n: number });
      expect(own.filter((data) => data.publisher === publisher).map((data) => data.n)).toEqual(upTo(10));
    }
  }
});

test("FAN-2: an ephemeral publication has no offset and is not in the history", async () => {
  const channel = "board:cursors";
  const clients = await clientOnEachNode();
  for (const client of clients) await client.subscribe(channel);
  expect(await publish(channel, { x: 1 }, { history: false })).toEqual({});
  expect(await publish(channel, { x: 2 })).toMatchObject({ offset: 1 });
  for (const client of clients) {
    await client.next((item) => (item.data as { x: number }).x === 2);
    expect(client.received.map(({ data, meta }) => [data, meta])).toEqual([
      [{ x: 1 }, { channel }],
      [{ x: 2 }, { channel, offset: 1 }],
    ]);
  }
  const history = await fleet.api("GET", `/v1/channels/${channel}/history`);
  expect(history.body["publications"]).toEqual([{ offset: 1, event: "moved", data: { x: 2 } }]);
});

test("FAN-3: a node follows a channel at the broker only while one of its sessions does", async () => {
  const channel = "board:followed";
  const [here] = await clientOnEachNode();
  await here.subscribe(channel);
  await eventually(async () => (await metricOf(fleet.gateways[0], "channels_followed")) === 1);
  expect(await metricOf(fleet.gateways[1], "channels_followed")).toBe(0);
  const topic = topicName("tidegate", { kind: "channel", name: channel });
  const raw = new Redis(redis.url);
  const followers = async (): Promise<unknown> => ((await raw.call("PUBSUB", "SHARDNUMSUB", topic)) as unknown[])[1];
  expect(await followers()).toBe(1);
  expect((await here.request("sync:unsubscribe", { channel })).ok).toBe(true);
  await eventually(async () => (await metricOf(fleet.gateways[0], "channels_followed")) === 0);
  await eventually(async () => (await followers()) === 0);
  raw.disconnect();
});

describe("subscribing", () => {
  test("SUB-1: the ack has the position of the channel; only later publications are delivered", async () => {
    const [client] = await clientOnEachNode();
    const { epoch } = await publish("board:late", 1);
    const ack = await client.subscribe("board:late");
    expect(ack).toEqual({
      ok: true,
      channel: "board:late",
      position: { epoch, offset: 1 },
      recovered: false,
      publications: [],
    });
    await publish("board:late", 2);
    await client.next((item) => item.data === 2);
    expect(client.received).toEqual([{ event: "moved", data: 2, meta: { channel: "board:late", offset: 2 } }]);
  });

  test("SUB-2: with a position the ack has the missed publications, and live deliveries follow", async () => {
    const channel = "board:back";
    const [client] = await clientOnEachNode();
    const { epoch } = await publish(channel, "one");
    for (const word of ["two", "three"]) await publish(channel, word);
    const ack = await client.subscribe(channel, { epoch, offset: 1 });
    expect(ack).toMatchObject({ recovered: true, position: { epoch, offset: 3 } });
    expect(ack.publications).toEqual([
      { offset: 2, event: "moved", data: "two" },
      { offset: 3, event: "moved", data: "three" },
    ]);
    await publish(channel, "four");
    await client.next((item) => item.data === "four");
    expect(client.received.map((item) => item.data)).toEqual(["four"]);
  });

  test("SUB-3: where history cannot bridge, the ack has the reason and the present position", async () => {
    const [client] = await clientOnEachNode();
    const { epoch } = await publish("tiny:a", 0);
    for (const n of upTo(9)) await publish("tiny:a", n);
    const present = { epoch, offset: 10 };
    const reasons: [object, string][] = [
      [{ epoch, offset: 2 }, "history_trimmed"],
      [{ epoch, offset: 11 }, "position_ahead"],
      [{ epoch: "gone", offset: 10 }, "epoch_changed"],
    ];
    for (const [position, reason] of reasons) {
      const ack = await client.request("sync:subscribe", { channel: "tiny:a", position });
      expect(ack).toMatchObject({ ok: true, recovered: false, reason, position: present, publications: [] });
    }
    const ack = await client.request("sync:subscribe", { channel: "tiny:a", position: { epoch, offset: 7 } });
    expect(ack).toMatchObject({ recovered: true, position: present });
  });

  test("SUB-4: 1,000 missed publications are replayed, more are too far behind", async () => {
    const channel = "board:long";
    const [client] = await clientOnEachNode();
    const { epoch } = await publish(channel, 0);
    for (const _ of upTo(2)) {
      const items = upTo(600).map((n) => ({ channel, event: "moved", data: n }));
      expect((await fleet.api("POST", "/v1/publish/batch", items)).status).toBe(200);
    }
    const far = await client.request("sync:subscribe", { channel, position: { epoch, offset: 200 } });
    expect(far).toMatchObject({ recovered: false, reason: "too_far_behind", position: { offset: 1_201 } });
    const near = await client.subscribe(channel, { epoch, offset: 201 });
    expect(near.recovered).toBe(true);
    expect(near.publications.map((item) => item.offset)).toEqual(upTo(1_201, 202));
  });

  test("SUB-4: more than 512 KiB missed are too far behind", async () => {
    const channel = "board:large";
    const [client] = await clientOnEachNode();
    const { epoch } = await publish(channel, 0);
    for (const _ of upTo(10)) await publish(channel, "x".repeat(60_000));
    const far = await client.request("sync:subscribe", { channel, position: { epoch, offset: 1 } });
    expect(far).toMatchObject({ recovered: false, reason: "too_far_behind" });
    expect((await client.subscribe(channel, { epoch, offset: 4 })).publications).toHaveLength(7);
  });

  test("SUB-5: a subscribe that races with publishes neither loses nor repeats one", async () => {
    const channel = "board:race";
    const { epoch } = await publish(channel, 0);
    let last = 1;
    const clients = await Promise.all(upTo(20).map((n) => connectClient(fleet.urls[n % 2] ?? "")));
    const publisher = repeat(async () => {
      last = (await publish(channel, last)).offset;
    });
    const acks = await Promise.all(
      clients.map((client, n) => client.subscribe(channel, n % 3 === 0 ? undefined : { epoch, offset: 1 })),
    );
    await publisher.stop();
    const { offset: end } = await publish(channel, "end");
    for (const [n, client] of clients.entries()) {
      await client.next((item) => item.data === "end");
      const fromAck = acks[n]?.publications.map((item) => item.offset) ?? [];
      const start = n % 3 === 0 ? (acks[n]?.position.offset ?? 0) : 1;
      expect([...fromAck, ...offsets(client, channel)]).toEqual(upTo(end, start + 1));
    }
  });

  test("SUB-1: nothing of the channel precedes the ack, however fast others publish", async () => {
    const channel = "board:order";
    const { epoch } = await publish(channel, 0);
    const clients = await Promise.all(upTo(10).map((n) => connectClient(fleet.urls[n % 2] ?? "")));
    const publisher = repeat(async () => publish(channel, "x"));
    const orders = await Promise.all(
      clients.map(async (client, n) => {
        const order: string[] = [];
        client.socket.onAny((event: string) => order.push(event));
        const position = n % 2 === 0 ? { position: { epoch, offset: 1 } } : {};
        client.socket.emit("sync:subscribe", { channel, ...position }, () => order.push("ack"));
        await client.next((received) => received.event === "moved");
        return order;
      }),
    );
    await publisher.stop();
    expect(orders.map((order) => order[0])).toEqual(orders.map(() => "ack"));
  });

  test("SUB-6: a second subscribe replaces the subscription: one delivery each, after the new ack", async () => {
    const channel = "board:again";
    const [client] = await clientOnEachNode();
    await client.subscribe(channel);
    await client.subscribe(channel);
    await publish(channel, 1);
    await publish(channel, 2);
    await client.next((item) => item.data === 2);
    expect(client.received.map((item) => item.data)).toEqual([1, 2]);
  });

  test("SUB-7: unsubscribe ends deliveries of the channel; a second one is not_subscribed", async () => {
    const [client] = await clientOnEachNode();
    await client.subscribe("board:left");
    await client.subscribe("board:kept");
    expect(await client.request("sync:unsubscribe", { channel: "board:left" })).toEqual({ ok: true });
    await publish("board:left", "unseen");
    await publish("board:kept", "seen");
    await client.next((item) => item.data === "seen");
    expect(client.received).toHaveLength(1);
    const again = await client.request("sync:unsubscribe", { channel: "board:left" });
    expect(again).toMatchObject({ ok: false, error: { code: "not_subscribed", retryable: false } });
  });

  test("SUB-8: a connection has at most 200 channels", async () => {
    const [client] = await clientOnEachNode();
    const acks = await Promise.all(upTo(201).map((n) => client.request("sync:subscribe", { channel: `board:n${n}` })));
    expect(acks.filter((ack) => ack?.ok)).toHaveLength(200);
    expect(acks.find((ack) => !ack?.ok)?.error?.code).toBe("too_many_channels");
  });
});

test("HIS-1: sync:history reads pages of a subscribed channel", async () => {
  const channel = "board:pages";
  const [client] = await clientOnEachNode();
  const { epoch } = await publish(channel, 1);
  for (const n of upTo(5, 2)) await publish(channel, n);
  expect((await client.request("sync:history", { channel, after: 0, limit: 2 }))?.error?.code).toBe("not_subscribed");
  await client.subscribe(channel);
  const page = await client.request("sync:history", { channel, epoch, after: 1, limit: 2 });
  expect(page).toEqual({
    ok: true,
    position: { epoch, offset: 5 },
    publications: [2, 3].map((n) => ({ offset: n, event: "moved", data: n })),
  });
  const other = await client.request("sync:history", { channel, epoch: "gone", after: 1, limit: 2 });
  expect(other?.error?.code).toBe("epoch_changed");
});

test("HIS-2: the API's history distinguishes trimmed from changed", async () => {
  const { epoch } = await publish("tiny:b", 1);
  for (const n of upTo(9)) await publish("tiny:b", n);
  const path = "/v1/channels/tiny:b/history";
  const all = await fleet.api("GET", path);
  expect(all.body).toMatchObject({ position: { epoch, offset: 10 } });
  expect((all.body["publications"] as unknown[]).length).toBe(3);
  const trimmed = await fleet.api("GET", `${path}?after=2&epoch=${epoch}`);
  expect([trimmed.status, trimmed.body["code"]]).toEqual([409, "history_trimmed"]);
  const changed = await fleet.api("GET", `${path}?after=8&epoch=gone`);
  expect([changed.status, changed.body["code"]]).toEqual([409, "epoch_changed"]);
  expect((await fleet.api("GET", `${path}?after=8&limit=1`)).body["publications"]).toHaveLength(1);
});

describe("users", () => {
  test("USR-1: a message to a user reaches the user's sessions on all nodes, and no others", async () => {
    const [one, two] = await clientOnEachNode();
    const other = await connectClient(fleet.urls[0] ?? "", { sub: "grace" });
    const answer = await fleet.api("POST", "/v1/users/ada/send", { event: "note", data: { text: "hi" } });
    expect([answer.status, answer.body]).toEqual([202, {}]);
    await fleet.api("POST", "/v1/users/grace/send", { event: "note", data: "for grace" });
    for (const client of [one, two]) {
      const note = await client.next((item) => item.event === "note");
      expect(note).toEqual({ event: "note", data: { text: "hi" }, meta: { user: true } });
    }
    await other.next((item) => item.event === "note");
    expect(other.received.map((item) => item.data)).toEqual(["for grace"]);
  });

  test("USR-2: a disconnect ends the user's sessions on all nodes, and stock clients stay away", async () => {
    const clients = await Promise.all(fleet.urls.map((url) => connectClient(url, { sub: "odd }{/ user" })));
    const path = `/v1/users/${encodeURIComponent("odd }{/ user")}/disconnect`;
    expect((await fleet.api("POST", path, { reason: "moved out" })).status).toBe(202);
    for (const client of clients) {
      expect(await client.disconnected).toBe("io server disconnect");
      const notice = { code: "disconnected", reason: "moved out", reconnect: false };
      expect(client.received).toEqual([{ event: "sync:disconnect", data: notice, meta: undefined }]);
    }
  });

  test("USR-3: a disconnect with reconnect: true closes the transport, and stock clients reconnect", async () => {
    const [client] = await clientOnEachNode();
    expect((await fleet.api("POST", "/v1/users/ada/disconnect", { reconnect: true })).status).toBe(202);
    expect(await client.disconnected).toBe("transport close");
    expect(client.received[0]?.data).toMatchObject({ code: "disconnected", reconnect: true });
  });
});
