/** Moves in which a connection is lost, refused or replaced. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MoveSchedule } from "../../client/src/connection/move-schedule.ts";
import { eventually } from "../support/eventually.ts";
import { FakeGateway, reached } from "./client-fake-gateway.ts";
import { movesOf } from "./client-moves.ts";

let gateway: FakeGateway;
const { connected, subscribed, drain, publish, sockets, gone, holdOnSecond, closeAll } = movesOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  gateway.welcome = { resumeToken: "resume-1" };
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

test("SDK-8: a lost second connection is retried with backoff, not in the reconnect window", async () => {
  const { client } = await connected({ random: () => 0.1 });
  await subscribed(client);
  gateway.welcome = { resumeToken: "resume-2", reconnect: { minDelayMs: 0, windowMs: 600_000 } };
  holdOnSecond("sync:subscribe");
  drain();
  await gateway.request("sync:subscribe", 2);
  gateway.sockets[1]?.conn.close();
  await sockets(3);
  expect(client.state).toMatchObject({ status: "connected" });
});

test("SDK-8: replaced by its own failed second connection, the client reconnects", async () => {
  const { client } = await connected();
  gateway.refusals.push({ code: "auth_unavailable", message: "too late", retryable: true, retryAfterMs: 1_000 });
  drain();
  await eventually(() => gateway.handshakes.length === 2);
  gateway.sockets[0]?.emit("sync:disconnect", { code: "replaced", reason: "connected elsewhere", reconnect: false });
  gateway.sockets[0]?.disconnect(true);
  expect(await reached(client, "waiting")).toMatchObject({ reason: { code: "replaced" } });
  await reached(client, "connected");
  expect(gateway.handshakes[2]).toMatchObject({ resume: "resume-1" });
});

test("SDK-8: a refused move is retried after retryAfterMs without a state change", async () => {
  const { client, states } = await connected();
  const { heard } = await subscribed(client);
  gateway.refusals.push({ code: "rate_limited", message: "later", retryable: true, retryAfterMs: 1_000 });
  drain();
  await eventually(() => gateway.handshakes.length === 2);
  publish(0, 1);
  await eventually(() => heard.length === 1);
  expect(gateway.handshakes).toHaveLength(2);
  await gone(0);
  expect(states.map(({ status }) => status)).toEqual(["connected"]);
  expect(client.state).toMatchObject({ sessionId: "s2" });
});

test("SDK-8: a newer drain does not shorten the wait for the next attempt", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  try {
    let opened = 0;
    const move = new MoveSchedule({ open: () => opened++, complete: () => expect.unreachable() });
    const notice = { reconnectAtMs: performance.now(), deadlineAtMs: 100_000, url: undefined };
    move.drain(notice);
    vi.advanceTimersByTime(0);
    move.retry(60_000, 60_000);
    move.drain(notice);
    vi.advanceTimersByTime(59_999);
    expect(opened).toBe(1);
    vi.advanceTimersByTime(1);
    expect(opened).toBe(2);
    move.stop();
  } finally {
    vi.useRealTimers();
  }
});

test("SDK-8: after a final refusal the client stays on its connection", async () => {
  const { client, states } = await connected();
  gateway.refusals.push({ code: "forbidden", message: "no", retryable: false });
  drain();
  await eventually(() => gateway.handshakes.length === 2);
  expect(await client.call("edit", 1)).toBe(1);
  expect(states).toEqual([]);
});

test("SDK-8: the retryAfterMs of a move still counts when the old connection ends", async () => {
  const { client } = await connected();
  gateway.refusals.push({ code: "rate_limited", message: "later", retryable: true, retryAfterMs: 50_000 });
  drain();
  await eventually(() => gateway.handshakes.length === 2);
  // Its answer shows that the client has read the refusal.
  expect(await client.call("edit", 1)).toBe(1);
  gateway.cut();
  const { retryInMs } = await reached(client, "waiting");
  expect(retryInMs).toBeGreaterThan(40_000);
  expect(retryInMs).toBeLessThanOrEqual(50_000);
});

test("SDK-8: when the old connection ends the new one takes over and repeats its calls", async () => {
  const { client, states } = await connected();
  const { heard } = await subscribed(client);
  gateway.onRequest = ({ event, data, socket, answer }) => {
    if (event === "edit" && socket !== gateway.sockets[0]) answer({ ok: true, data });
    return true;
  };
  const call = client.call("edit", 1, { id: "a1", repeat: true });
  await gateway.request("edit");
  drain();
  const again = await gateway.request("sync:subscribe", 2);
  gateway.sockets[0]?.conn.close();
  expect(await call).toBe(1);
  const publications = [{ event: "moved", data: "p1", offset: 1 }];
  again.answer({
    ok: true,
    channel: "board:1",
    position: { epoch: "e1", offset: 1 },
    recovered: true,
    publications,
  });
  await eventually(() => heard.length === 1);
  expect(states.map(({ status }) => status)).toEqual(["connected"]);
});

test("SDK-8: when the new connection ends the old one serves until another is open", async () => {
  const { client, states } = await connected();
  const { heard } = await subscribed(client);
  holdOnSecond("sync:subscribe");
  drain();
  await gateway.request("sync:subscribe", 2);
  publish(0, 1);
  await eventually(() => heard.length === 1);
  gateway.onRequest = (request) => gateway.grant(request);
  gateway.cut();
  await sockets(3);
  await gone(0);
  expect(states).toMatchObject([{ status: "connected", sessionId: "s3" }]);
  expect(await client.call("edit", 1)).toBe(1);
});

test("replaced by its own second connection the client uses that one", async () => {
  const { client } = await connected();
  await subscribed(client);
  holdOnSecond("sync:subscribe");
  drain();
  await gateway.request("sync:subscribe", 2);
  const disconnect = { reason: "", reconnect: false };
  gateway.sockets[0]?.emit("sync:disconnect", { code: "replaced", ...disconnect });
  await gone(0);
  expect(client.state).toMatchObject({ status: "connected", sessionId: "s2" });
  gateway.socket.emit("sync:disconnect", { code: "disconnected", ...disconnect });
  await reached(client, "closed");
});
