/** Clients that do not read, read slowly, or are frozen. */
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from "vitest";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf, metricsOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { spawnProcess } from "../support/processes.ts";
import { RawClient } from "../support/raw-client.ts";
import { pingFrame, textFrame } from "../support/raw-websocket.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

const rules = { namespaces: { board: { historySize: 1_000 }, cursors: { historySize: 1_000, slow: "latest" } } };
const claims = { channels: ["board:*", "cursors:*"] };
const large = "x".repeat(60_000);

let fleet: Fleet;
/** Closes a client that reads nothing after about 1.2 s. */
let stalling: Fleet;
/** Closes a client that answers no ping after 3.2 s. */
let pinging: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ rules });
  stalling = await startFleet({ rules, liveness: { stallCheckMs: 200 } });
  pinging = await startFleet({ rules, liveness: { pingIntervalMs: 200, pingTimeoutMs: 3_000 } });
});
afterEach(async () => {
  closeClients();
  for (const { socket } of rawClients.splice(0)) socket.destroy();
  const gateways = [fleet, stalling, pinging].flatMap((each) => each.gateways);
  await eventually(async () => (await metricsOf(gateways, "sessions")).every((count) => count === 0));
});
afterAll(async () => {
  await fleet.stop();
  await stalling.stop();
  await pinging.stop();
});

const rawClients: RawClient[] = [];
async function rawClient(of: Fleet): Promise<RawClient> {
  const client = await RawClient.connect(new URL(of.urls[0] ?? ""), await userToken({ ...claims, sub: "slow" }));
  rawClients.push(client);
  return client;
}

async function metric(of: Fleet, name: string): Promise<number> {
  const { adminDoor } = of.gateways[0] ?? {};
  const text = await (await fetch(`http://127.0.0.1:${adminDoor?.port}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`tidegate_${name} `));
  return Number(line?.split(" ")[1] ?? 0);
}

async function publish(of: Fleet, channel: string, data: unknown = large): Promise<number> {
  const answer = await of.api("POST", "/v1/publish", { channel, event: "moved", data });
  expect(answer.status, answer.text).toBe(200);
  return answer.body["offset"] as number;
}

/** Publishes while no outbox waits, until the condition holds: little more than the kernel buffers. */
async function fill(of: Fleet, channel: string, until: () => Promise<boolean>): Promise<number> {
  let last = 0;
  while (!(await until())) {
    if ((await metric(of, "sessions_waiting")) === 0) last = await publish(of, channel);
  }
  return last;
}

/** Collects what the client gets of a channel from now on. */
function offsets(client: RawClient, channel: string): number[] {
  const seen: number[] = [];
  const { onEvent } = client;
  client.onEvent = (event, data, meta) => {
    onEvent(event, data, meta);
    if (meta.channel === channel && meta.offset !== undefined) seen.push(meta.offset);
  };
  return seen;
}

/** Subscribes with the last offset seen; adds what was missed, by the ack or page by page, and then live deliveries. */
async function comeBack(of: Fleet, channel: string, epoch: string, seen: number[]): Promise<SubscribeAck> {
  const client = await rawClient(of);
  const held: number[] = [];
  let deliver = (offset: number): unknown => held.push(offset);
  client.onEvent = (_event, _data, { offset = 0 }) => void deliver(offset);
  const ack = await client.subscribe(channel, { epoch, offset: seen.at(-1) ?? 0 });
  seen.push(...ack.publications.map(({ offset }) => offset));
  while (seen.at(-1) !== ack.position.offset) {
    const page = (await client.request("sync:history", { channel, epoch, after: seen.at(-1) ?? 0, limit: 1_000 })) as {
      ok: boolean;
      publications: { offset: number }[];
    };
    expect(page.ok).toBe(true);
    seen.push(...page.publications.map(({ offset }) => offset).filter((offset) => offset <= ack.position.offset));
  }
  seen.push(...held);
  deliver = (offset) => seen.push(offset);
  return ack;
}

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

test("SLOW-1: a client with over 1 MiB unread is closed as slow_consumer; others miss nothing", async () => {
  const channel = "board:flood";
  const reader = await connectClient(fleet.urls[0] ?? "");
  await reader.subscribe(channel);
  const slow = await rawClient(fleet);
  await slow.subscribe(channel);
  slow.socket.pause();
  let published = 0;
  while ((await metric(fleet, 'disconnects_total{reason="slow_consumer"}')) === 0) {
    published = await publish(fleet, channel);
    expect(await metric(fleet, "outbox_largest_bytes")).toBeLessThanOrEqual(1024 * 1024);
    expect(published).toBeLessThan(1_000);
  }
  expect(await metric(fleet, 'slow_consumers_total{cause="bytes"}')).toBe(1);
  await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === 1);
  await reader.next((item) => (item.meta as { offset: number }).offset === published);
  expect(reader.received.map((item) => (item.meta as { offset: number }).offset)).toEqual(upTo(published));
});

test("SLOW-10: a client that was closed for not reading gets a reset when it reads again", async () => {
  const slow = await rawClient(fleet);
  await slow.subscribe("board:reset");
  slow.socket.pause();
  const before = await metric(fleet, 'disconnects_total{reason="slow_consumer"}');
  while ((await metric(fleet, 'disconnects_total{reason="slow_consumer"}')) === before) {
    await publish(fleet, "board:reset");
  }
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => slow.socket.once("error", resolve));
  slow.socket.resume();
  expect((await failed).code).toBe("ECONNRESET");
  await slow.closed;
});

test("SLOW-2: SLOW-4: a client that reads nothing is closed, and recovers from its position", async () => {
  const channel = "board:stalled";
  const slow = await rawClient(stalling);
  const { position } = await slow.subscribe(channel);
  const seen = offsets(slow, channel);
  slow.socket.pause();
  const stalled = async (): Promise<boolean> => (await metric(stalling, 'slow_consumers_total{cause="stalled"}')) === 1;
  const last = await fill(stalling, channel, stalled);
  expect(await metric(stalling, 'disconnects_total{reason="slow_consumer"}')).toBe(1);
  slow.socket.resume();
  await slow.closed;

  expect(seen.length).toBeLessThan(last);
  const ack = await comeBack(stalling, channel, position.epoch, seen);
  expect(ack.recovered || ack.reason === "too_far_behind").toBe(true);
  expect(seen).toEqual(upTo(last));
});

test("SLOW-4: a client that missed more than a replay reads it page by page, and then live", async () => {
  const channel = "board:pages";
  const slow = await rawClient(fleet);
  const { position } = await slow.subscribe(channel);
  const seen = offsets(slow, channel);
  slow.socket.pause();
  const closedBefore = await metric(fleet, 'slow_consumers_total{cause="bytes"}');
  while ((await metric(fleet, 'slow_consumers_total{cause="bytes"}')) === closedBefore) await publish(fleet, channel);
  slow.socket.resume();
  await slow.closed;

  const ack = await comeBack(fleet, channel, position.epoch, seen);
  expect([ack.recovered, ack.reason]).toEqual([false, "too_far_behind"]);
  const last = await publish(fleet, channel);
  await eventually(() => seen.at(-1) === last);
  expect(seen).toEqual(upTo(last));
});

test("SLOW-3: a client that answers no ping is cut and frees its seat; one that answers stays", async () => {
  const answering = await connectClient(pinging.urls[0] ?? "");
  const silent = await rawClient(pinging);
  silent.answersPings = false;
  await silent.closed;
  expect(await metric(pinging, 'disconnects_total{reason="ping_timeout"}')).toBe(1);
  expect(await metricOf(pinging.gateways[0], "sessions")).toBe(1);
  expect(answering.socket.connected).toBe(true);
});

test("SLOW-3: a client whose process is frozen is cut, too", async () => {
  const script = `import { io } from "socket.io-client";
    const [, url, token] = process.argv;
    io(url, { transports: ["websocket"], auth: { token } }).on("sync:welcome", () => console.log("welcome"));`;
  const token = await userToken();
  const client = spawnProcess(process.execPath, [
    ...["--input-type=module", "--eval", script, "--"],
    ...[pinging.urls[0] ?? "", token],
  ]);
  try {
    await client.printed("welcome");
    const found = await metric(pinging, 'disconnects_total{reason="ping_timeout"}');
    client.kill("SIGSTOP");
    await eventually(async () => (await metric(pinging, 'disconnects_total{reason="ping_timeout"}')) > found);
    await eventually(async () => (await metricOf(pinging.gateways[0], "sessions")) === 0);
  } finally {
    client.kill("SIGKILL");
  }
});

test("SLOW-5: SLOW-6: SLOW-7: with latest, a slow reader gets the newest and is not closed", async () => {
  const channel = "cursors:1";
  const fast = await connectClient(fleet.urls[0] ?? "", claims);
  await fast.subscribe(channel);
  await fast.subscribe("board:beside");
  const slow = await rawClient(fleet);
  await slow.subscribe(channel);
  await slow.subscribe("board:beside");
  const seen = offsets(slow, channel);
  const beside = offsets(slow, "board:beside");
  // Reads all the time, half of what is published: however slowly that is, its backlog grows. The kernel lets the gateway send on only
  // once a large part of a full buffer has been read, so that its outbox may stand still for a while.
  const { socket } = slow;
  let readBytes = 0;
  let mayReadBytes = 0;
  socket.on("data", ({ length }: Buffer) => {
    readBytes += length;
    socket.pause();
  });
  const reading = setInterval(() => readBytes < mayReadBytes && socket.resume(), 10);
  onTestFinished(() => clearInterval(reading));
  const conflatedBefore = await metric(fleet, "conflated_total");
  let last = 0;
  while ((await metric(fleet, "conflated_total")) < conflatedBefore + 100) {
    last = await publish(fleet, channel);
    mayReadBytes += large.length / 2;
    expect(await metricOf(fleet.gateways[0], "sessions"), "the two clients").toBe(2);
  }
  await publish(fleet, "board:beside", "small");
  last = await publish(fleet, channel);
  mayReadBytes = Infinity;
  await eventually(() => seen.at(-1) === last && beside.length === 1);
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  const missing = last - new Set(seen).size;
  expect(missing).toBe((await metric(fleet, "conflated_total")) - conflatedBefore);
  await fast.next(({ meta }) => (meta as { channel: string; offset: number }).offset === last);
  const everything = fast.received.filter(({ meta }) => (meta as { channel: string }).channel === channel);
  expect(everything.map(({ meta }) => (meta as { offset: number }).offset)).toEqual(upTo(last));
});

test("SLOW-8: a client that sends websocket pings and reads no pongs is cut", async () => {
  const [gateway] = fleet.gateways;
  const flooder = await rawClient(fleet);
  expect(await metricOf(gateway, "sessions")).toBe(1);
  flooder.socket.pause();
  const pings = Buffer.concat(Array.from({ length: 5_000 }, () => pingFrame("x".repeat(125))));
  let sentBytes = 0;
  while ((await metricOf(gateway, "sessions")) === 1) {
    await new Promise((resolve) => flooder.socket.write(pings, resolve));
    sentBytes += pings.length;
    // The bound is 1 MiB; the kernel buffers the rest.
    expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
  }
  expect(await metricOf(gateway, "sessions")).toBe(0);
  expect(sentBytes).toBeGreaterThan(0);
});

test("SLOW-9: a client that recovers many channels at once gets everything, and stays", async () => {
  const channels = Array.from({ length: 15 }, (_, i) => `board:back-${i}`);
  for (const channel of channels) for (let i = 0; i < 8; i++) await publish(fleet, channel);
  const { body } = await fleet.api("GET", `/v1/channels/${channels[0]}/history?limit=1`);
  expect(body["position"]).toMatchObject({ offset: 8 });
  const client = await connectClient(fleet.urls[0] ?? "", claims);
  const epochs = await Promise.all(channels.map(async (channel) => (await client.subscribe(channel)).position.epoch));
  const acks = await Promise.all(
    channels.map(async (channel, i) => client.subscribe(channel, { epoch: epochs[i] ?? "", offset: 0 })),
  );
  for (const ack of acks) {
    expect(ack.recovered).toBe(true);
    expect(ack.publications.map(({ offset }) => offset)).toEqual(upTo(8));
  }
  expect(client.socket.connected).toBe(true);
});

test("OUT-5: a session that ends while its client reads nothing is closed all the same", async () => {
  const channel = "board:ended";
  const slow = await rawClient(fleet);
  await slow.subscribe(channel);
  slow.socket.pause();
  const waits = async (): Promise<boolean> => (await metric(fleet, "sessions_waiting")) > 0;
  await fill(fleet, channel, waits);
  const before = await metricOf(fleet.gateways[0], "sessions");
  expect((await fleet.api("POST", "/v1/users/slow/disconnect", {})).status).toBe(202);
  // Neither the stall check (30 s) nor a ping (45 s) would have found it by then.
  await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === before - 1);
});

test("USR-2: a session that was disconnected sends no event on, although its client has not read the notice yet", async () => {
  const channel = "board:disconnected";
  const slow = await rawClient(fleet);
  await slow.subscribe(channel);
  slow.socket.pause();
  await fill(fleet, channel, async () => (await metric(fleet, "sessions_waiting")) > 0);
  expect((await fleet.api("POST", "/v1/users/slow/disconnect", {})).status).toBe(202);
  await eventually(async () => {
    const { items } = (await fleet.api("GET", "/v1/users")).body as { items: { user: string }[] };
    return !items.some(({ user }) => user === "slow");
  });
  slow.socket.write(textFrame('42["card.move",{}]'));
  await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === 0);
  expect(await metricOf(fleet.gateways[0], 'calls_total{outcome="no_route"}')).toBe(0);
});
