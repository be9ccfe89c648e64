/** Ends of what waits: by an AbortSignal, or by time. */
import { getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Client } from "../../client/src/index.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let client: Client;
let controller: AbortController;
const { open, closeAll } = clientsOf(() => gateway);
const away = { code: "at_capacity", message: "full", retryable: true, retryAfterMs: 60_000 } as const;

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  controller = new AbortController();
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

const aborted = expect.objectContaining({ code: "aborted", retryable: false, cause: "left the page" });

describe("client signals", () => {
  test("SDK-17: a signal ends a call that waits, is in flight, or waits for its repeat", async () => {
    const { signal } = controller;
    gateway.onRequest = ({ data, answer }) => {
      const error = { code: "upstream_unavailable", message: "later", retryable: true, retryAfterMs: 30_000 };
      if ((data as unknown) === "repeated") answer({ ok: false, error });
      return true;
    };
    client = open();
    const waiting = client.call("edit", "waiting", { offline: true, signal });
    const late = open();
    await Promise.all([reached(client, "connected"), reached(late, "connected"), gateway.request("edit")]);
    const repeated = client.call("edit", "repeated", { id: "a", repeat: true, signal });
    await gateway.request("edit", 2);
    gateway.refusals.push(away);
    const other = open();
    const offline = other.call("edit", "offline", { offline: true, signal });
    controller.abort("left the page");
    const outcomes = await Promise.allSettled([waiting, repeated, offline]);
    expect(outcomes).toEqual(outcomes.map(() => ({ status: "rejected", reason: aborted })));
    await expect(late.call("edit", 1, { signal })).rejects.toEqual(aborted);
    expect(gateway.of("edit")).toHaveLength(2);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("SDK-17: a signal ends a subscribe that waits, and no subscription remains", async () => {
    gateway.refusals.push(away);
    client = open();
    const board = client.channel("board:1");
    const subscribed = board.subscribe({ signal: controller.signal });
    await reached(client, "waiting");
    controller.abort("left the page");
    await expect(subscribed).rejects.toEqual(aborted);
    await expect(board.subscribe({ signal: controller.signal })).rejects.toEqual(aborted);
    const other = open();
    await other.channel("board:2").subscribe();
    expect(gateway.of("sync:subscribe").map(({ data }) => data.channel)).toEqual(["board:2"]);
  });

  test("SDK-17: a call that was aborted in flight is not sent again on the next connection", async () => {
    client = open({ offline: {} });
    await reached(client, "connected");
    gateway.onRequest = () => false;
    const call = client.call("edit", 1, { id: "a", repeat: true, signal: controller.signal });
    await gateway.request("edit");
    controller.abort("left the page");
    await expect(call).rejects.toEqual(aborted);
    gateway.onRequest = (request) => gateway.grant(request);
    gateway.cut();
    await reached(client, "waiting");
    await client.call("edit", 2);
    expect(gateway.of("edit").map(({ data }) => data)).toEqual([1, 2]);
  });

  test("SDK-17: a signal that aborts after the answer changes nothing", async () => {
    client = open();
    const board = client.channel("board:1");
    const heard: unknown[] = [];
    board.on("moved", (data) => heard.push(data));
    await board.subscribe({ signal: controller.signal, withinMs: 60_000 });
    controller.abort();
    gateway.socket.emit("moved", 1, { channel: "board:1", offset: 1 });
    await client.call("done");
    expect(heard).toEqual([1]);
  });

  test("SDK-17: a signal closes the client, also before it connects", async () => {
    client = open({ signal: controller.signal });
    await reached(client, "connected");
    controller.abort("left the page");
    expect(client.state).toEqual({ status: "closed", reason: aborted });
    expect(open({ signal: controller.signal }).state).toEqual({ status: "closed", reason: aborted });
    const other = new AbortController();
    const closed = open({ signal: other.signal });
    closed.close();
    expect(getEventListeners(other.signal, "abort")).toEqual([]);
  });
});

describe("client subscribe within a time", () => {
  test("SDK-17: it rejects with not_connected while the gateway is away, and is withdrawn", async () => {
    gateway.refusals.push(away);
    client = open();
    const board = client.channel("board:1");
    await expect(board.subscribe({ withinMs: 20 })).rejects.toMatchObject({ code: "not_connected", retryable: true });
    for (const withinMs of [0, -1, Number.NaN]) {
      await expect(board.subscribe({ withinMs })).rejects.toMatchObject({ code: "invalid_request" });
    }
  });

  test("SDK-17: it rejects with the last refusal of the gateway", async () => {
    const error = { code: "broker_unavailable", message: "later", retryable: true, retryAfterMs: 60_000 };
    gateway.onRequest = (request) => {
      if (request.event !== "sync:subscribe") return gateway.grant(request);
      request.answer({ ok: false, error });
      return true;
    };
    client = open();
    await reached(client, "connected");
    void client.channel("board:1").subscribe();
    await client.call("after.the.refusal");
    const subscribed = client.channel("board:1").subscribe({ withinMs: 20 });
    await expect(subscribed).rejects.toMatchObject({ code: "broker_unavailable" });
    expect(gateway.of("sync:subscribe")).toHaveLength(1);
  });

  test("SDK-17: withinMs and signal count in a second subscribe() as well, while the first waits", async () => {
    gateway.onRequest = () => false;
    client = open();
    await reached(client, "connected");
    const board = client.channel("board:1");
    void board.subscribe().catch(() => undefined);
    await expect(board.subscribe({ withinMs: 20 })).rejects.toMatchObject({ code: "upstream_timeout" });
    const controller = new AbortController();
    const first = board.subscribe();
    const second = board.subscribe({ signal: controller.signal });
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: "aborted" });
    await expect(second).rejects.toMatchObject({ code: "aborted" });
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
  });

  test("SDK-12: a position, after or limit that is none is refused before it is sent", async () => {
    client = open();
    await reached(client, "connected");
    const board = client.channel("board:1");
    for (const position of [{ epoch: "e", offset: 7n }, { epoch: 1, offset: 1 }, { epoch: "e", offset: -1 }, 7]) {
      const options = { position } as unknown as { position: { epoch: string; offset: number } };
      await expect(board.subscribe(options)).rejects.toMatchObject({ code: "invalid_request" });
    }
    await expect(board.history({ after: 7n as unknown as number })).rejects.toMatchObject({ code: "invalid_request" });
    await expect(board.history({ limit: Number.NaN })).rejects.toMatchObject({ code: "invalid_request" });
    expect(gateway.requests).toEqual([]);
  });
});
