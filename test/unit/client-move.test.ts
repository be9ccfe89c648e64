/** A move from one connection to another: connect first, close afterwards. */
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
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

test("SDK-7: a move presents resume token, positions and grants, then closes the old connection", async () => {
  const { client, states } = await connected();
  gateway.onRequest = ({ answer, data }) => {
    const position = { epoch: "e1", offset: 2 };
    answer({ ok: true, channel: data.channel, position, recovered: true, publications: [], grant: "sealed" });
    return true;
  };
  const { board } = await subscribed(client);
  const reason = new Promise((resolve) => gateway.socket.once("disconnect", resolve));
  gateway.welcome = { resumeToken: "resume-2", resumed: true, node: "n2", sessionId: "s1" };
  drain({ reconnectInMs: 30 });
  expect(await reason).toBe("client namespace disconnect");
  expect(gateway.handshakes[1]).toEqual({ token: "token", protocol: 1, moves: true, resume: "resume-1" });
  expect(gateway.of("sync:subscribe")[1]?.data).toEqual({
    channel: "board:1",
    position: { epoch: "e1", offset: 2 },
    grant: "sealed",
  });
  expect(states).toEqual([{ status: "connected", sessionId: "s1", user: "ada", node: "n2", resumed: true }]);
  expect(board.position).toEqual({ epoch: "e1", offset: 2 });
});

test("SDK-22: a move that is called off does not begin; one that has begun is completed", async () => {
  const { client, states } = await connected();
  const forget = vi.spyOn(MoveSchedule.prototype, "stop");
  onTestFinished(() => forget.mockRestore());
  drain({ reconnectInMs: 60_000 });
  gateway.socket.emit("sync:undrain", {});
  expect(await client.call("edit", 1)).toBe(1);
  expect(forget).toHaveBeenCalledTimes(1);
  drain();
  await sockets(2);
  gateway.sockets[0]?.emit("sync:undrain", {});
  await gone(0);
  expect(states.map(({ status }) => status)).toEqual(["connected"]);
});

test("SDK-7: publications of either or both connections are delivered once and in order", async () => {
  const { client } = await connected();
  const { board, heard } = await subscribed(client);
  board.on("hint", (data) => heard.push(data));
  client.onMessage("note", (data) => heard.push(data));
  gateway.welcome = { sessionId: "s1" };
  publish(0, 1);
  holdOnSecond("sync:subscribe");
  drain();
  const again = await gateway.request("sync:subscribe", 2);
  publish(0, 2);
  gateway.sockets[0]?.emit("hint", "h1", { channel: "board:1" });
  gateway.sockets[0]?.emit("note", "n1", { user: true });
  await eventually(() => heard.length === 4);
  const missed = { event: "moved", data: "p2", offset: 2 };
  const onSecond = gateway.sockets[1];
  again.answer({
    ok: true,
    channel: "board:1",
    position: { epoch: "e1", offset: 2 },
    recovered: true,
    publications: [missed],
  });
  publish(1, 3);
  onSecond?.emit("hint", "h1", { channel: "board:1" });
  onSecond?.emit("hint", "h2", { channel: "board:1" });
  onSecond?.emit("note", "n2", { user: true });
  await eventually(() => heard.includes("n2"));
  expect(heard).toEqual(["p1", "p2", "h1", "n1", "p3", "h2", "n2"]);
});

test("SDK-7: USR-1: of equal messages to the user none is dropped, whichever connection brings them", async () => {
  const { client } = await connected();
  await subscribed(client);
  const heard: unknown[] = [];
  client.onMessage("note", (data) => heard.push(data));
  gateway.welcome = { sessionId: "s1" };
  holdOnSecond("sync:subscribe");
  drain();
  await gateway.request("sync:subscribe", 2);
  for (const socket of gateway.sockets) socket.emit("note", "ping", { user: true });
  await eventually(() => heard.length === 2);
  expect(heard).toEqual(["ping", "ping"]);
});

test("SDK-7: where a move begins another session, its copy of a message to the user is the one that counts", async () => {
  gateway.announcesMoves = false;
  const { client, states } = await connected();
  const heard: unknown[] = [];
  client.onMessage("note", (data) => heard.push(data));
  drain();
  await eventually(() => states.length === 1);
  for (const [at, socket] of gateway.sockets.entries()) socket.emit("note", at, { user: true });
  gateway.sockets[0]?.emit("sync:moved", {});
  await gone(0);
  await eventually(() => heard.length > 0);
  expect(heard).toEqual([1]);
});

test("SDK-7: a second connection that starts ahead causes no resync: the first one catches up", async () => {
  const { client } = await connected();
  const { board, heard } = await subscribed(client);
  board.onResync((resync) => heard.push(resync));
  holdOnSecond("sync:subscribe");
  drain();
  const again = await gateway.request("sync:subscribe", 2);
  const position = { epoch: "e1", offset: 2 };
  again.answer({
    ok: true,
    channel: "board:1",
    position,
    recovered: false,
    reason: "too_far_behind",
    publications: [],
  });
  gateway.sockets[1]?.emit("note", null, { user: true });
  await new Promise((resolve) => client.onMessage("note", resolve));
  expect(client.state).toMatchObject({ sessionId: "s1" });
  publish(0, 1);
  publish(0, 2);
  await gone(0);
  publish(1, 3);
  await eventually(() => heard.length === 3);
  expect(heard).toEqual(["p1", "p2", "p3"]);
  expect(client.state).toMatchObject({ sessionId: "s2" });
});

test("SDK-7: an unrecovered subscribe is repeated if the position has moved since its request", async () => {
  const { client } = await connected();
  const { board, heard } = await subscribed(client);
  board.onResync((resync) => heard.push(resync));
  holdOnSecond("sync:subscribe");
  drain();
  const again = await gateway.request("sync:subscribe", 2);
  publish(0, 1);
  await eventually(() => heard.length === 1);
  gateway.sockets[0]?.conn.close();
  await eventually(() => client.state.status === "connected" && client.state.sessionId === "s2");
  const position = { epoch: "e1", offset: 2 };
  again.answer({
    ok: true,
    channel: "board:1",
    position,
    recovered: false,
    reason: "history_trimmed",
    publications: [],
  });
  expect((await gateway.request("sync:subscribe", 3)).data.position).toEqual({ epoch: "e1", offset: 1 });
  expect(heard).toEqual(["p1"]);
});

test("ephemeral publications of the old connection end with the first of the new one", async () => {
  const { client } = await connected();
  const { board, heard } = await subscribed(client);
  const other = client.channel("board:2");
  await other.subscribe();
  board.on("hint", (data) => heard.push(data));
  client.onMessage("note", (data) => heard.push(data));
  gateway.onRequest = (request) => request.data.channel === "board:1" && gateway.grant(request);
  gateway.welcome = { sessionId: "s1" };
  drain();
  await gateway.request("sync:subscribe", 4);
  gateway.sockets[1]?.emit("hint", "new", { channel: "board:1" });
  await eventually(() => heard.length === 1);
  gateway.sockets[0]?.emit("hint", "late", { channel: "board:1" });
  gateway.sockets[0]?.emit("note", "marker", { user: true });
  await eventually(() => heard.includes("marker"));
  expect(heard).toEqual(["new", "marker"]);
});

test("SDK-7: open calls are answered on the old connection, new calls use the new one", async () => {
  const { client, states } = await connected();
  gateway.onRequest = () => false;
  const first = client.call("edit", 1);
  await gateway.request("edit");
  drain();
  await eventually(() => states.length === 1);
  const second = client.call("edit", 2);
  const [onFirst, onSecond] = [await gateway.request("edit"), await gateway.request("edit", 2)];
  expect([onFirst.socket, onSecond.socket]).toEqual([gateway.sockets[0], gateway.sockets[1]]);
  onSecond.answer({ ok: true, data: "second" });
  expect(await second).toBe("second");
  expect(onFirst.socket.connected).toBe(true);
  onFirst.answer({ ok: true, data: "first" });
  expect(await first).toBe("first");
  await gone(0);
});

test("SDK-7: MOVE-4: the old connection stays until the last message to the user has arrived there", async () => {
  gateway.announcesMoves = false;
  const { client, states } = await connected();
  const heard: unknown[] = [];
  client.onMessage("note", (data) => heard.push(data));
  gateway.welcome = { sessionId: "s1" };
  drain();
  await eventually(() => states.length === 1);
  gateway.sockets[0]?.emit("note", "late", { user: true });
  gateway.sockets[0]?.emit("sync:moved", {});
  await gone(0);
  expect(heard).toEqual(["late"]);
});

test("SDK-7: the old connection is left, too, where its node does not say that the session has moved", async () => {
  gateway.announcesMoves = false;
  const { states } = await connected();
  drain();
  await gone(0);
  expect(states.map(({ status }) => status)).toEqual(["connected"]);
});

test("SDK-7: at the deadline the old connection is closed, open calls or not", async () => {
  const { client } = await connected();
  await subscribed(client);
  gateway.onRequest = () => false;
  const call = client.call("edit", 1);
  drain({ deadlineInMs: 100 });
  await expect(call).rejects.toMatchObject({ code: "upstream_timeout" });
  await gone(0);
  expect(client.state).toMatchObject({ status: "connected", sessionId: "s2" });
});

test("SDK-7: the url of a drain is for that one connection", async () => {
  const elsewhere = new FakeGateway();
  await elsewhere.start();
  const { client } = await connected();
  drain({ url: elsewhere.url });
  await eventually(() => elsewhere.sockets.length === 1);
  gateway.moved();
  await gone(0);
  elsewhere.cut();
  await sockets(2);
  await reached(client, "connected");
  await elsewhere.stop();
});

test("a newer drain replaces the reconnect time", async () => {
  await connected();
  drain({ reconnectInMs: 60_000 });
  drain({ reconnectInMs: 0 });
  await gone(0);
  expect(gateway.sockets).toHaveLength(2);
});

test("the replaced reconnect time has no effect", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  try {
    let opened = 0;
    const move = new MoveSchedule({ open: () => opened++, complete: () => expect.unreachable() });
    const notice = (inMs: number) => ({
      reconnectAtMs: performance.now() + inMs,
      deadlineAtMs: 100_000,
      url: undefined,
    });
    for (const [replaced, newer] of [
      [1_000, 5_000],
      [5_000, 1_000],
    ] as const) {
      opened = 0;
      move.drain(notice(replaced));
      move.drain(notice(newer));
      vi.advanceTimersByTime(newer - 1);
      expect(opened).toBe(0);
      vi.advanceTimersByTime(10_000);
      expect(opened).toBe(1);
      move.stop();
    }
  } finally {
    vi.useRealTimers();
  }
});

test("a drain of the new connection during a move starts another move afterwards", async () => {
  const { client } = await connected();
  await subscribed(client);
  holdOnSecond("sync:subscribe");
  drain();
  const again = await gateway.request("sync:subscribe", 2);
  drain();
  again.socket.emit("note", null, { user: true });
  await new Promise((resolve) => client.onMessage("note", resolve));
  expect(gateway.sockets).toHaveLength(2);
  gateway.grant(again);
  await sockets(3);
});

test("unsubscribe, subscribe and revoke during a move leave each channel in its last state", async () => {
  const { client } = await connected();
  const { board, heard } = await subscribed(client);
  const other = client.channel("board:2");
  other.onEnd(({ code }) => heard.push(code));
  await other.subscribe();
  holdOnSecond("sync:subscribe");
  drain();
  await gateway.request("sync:subscribe", 4);
  board.unsubscribe();
  publish(0, 1);
  gateway.sockets[0]?.emit("sync:revoked", { channel: "board:2", reason: "gone" });
  await gone(0);
  expect(heard).toEqual(["revoked"]);
  gateway.onRequest = (request) => gateway.grant(request);
  for (const request of gateway.of("sync:subscribe").slice(2)) gateway.grant(request);
  const left = await gateway.request("sync:unsubscribe", 2);
  expect(left.socket).toBe(gateway.sockets[1]);
  expect(await board.subscribe()).toMatchObject({ position: { offset: 0 } });
  publish(1, 2);
  await eventually(() => heard.includes("p2"));
});

test("an open refresh on the old connection does not replace the new resume token", async () => {
  gateway.welcome = { resumeToken: "resume-1", expiresAt: Date.now() + 1_500 };
  gateway.onRequest = () => false;
  await connected();
  const refresh = await gateway.request("sync:refresh");
  gateway.welcome = { resumeToken: "resume-2" };
  drain();
  await sockets(2);
  refresh.answer({ ok: true, expiresAt: Date.now() + 60_000, resumeToken: "resume-old" });
  await gone(0);
  gateway.cut();
  await eventually(() => gateway.handshakes.length === 3);
  expect(gateway.handshakes[2]?.["resume"]).toBe("resume-2");
});

test("sync:policy replaces the reconnect window of the welcome", async () => {
  const { client } = await connected({ random: () => 0.5 });
  gateway.socket.emit("sync:policy", { reconnect: { minDelayMs: 1_000, windowMs: 60_000 } });
  gateway.socket.emit("note", null, { user: true });
  await new Promise((resolve) => client.onMessage("note", resolve));
  gateway.cut();
  expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 31_000 });
});
