import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Channel, Client } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let client: Client;
let board: Channel;
let heard: [data: unknown, offset: number | undefined][];
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  client = open();
  board = client.channel("board:1");
  heard = [];
  board.on("moved", (data, meta) => heard.push([data, meta.offset]));
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

function publish(offset: number, data: unknown = `p${offset}`): void {
  gateway.socket.emit("moved", data, { channel: "board:1", offset });
}

/** Resolves when the client has received everything sent so far. */
async function flushed(): Promise<void> {
  const marker = new Promise((resolve) => {
    const stop = client.onMessage("flushed", () => resolve(stop()));
  });
  gateway.socket.emit("flushed", null, { user: true });
  await marker;
}

const publication = (offset: number) => ({ offset, event: "moved", data: `p${offset}` });

describe("client channel", () => {
  test("a subscribe before the connect is sent after it", async () => {
    expect(board.position).toBeNull();
    gateway.positions.set("board:1", { epoch: "e1", offset: 4 });
    expect(await board.subscribe()).toEqual({ recovered: false, position: { epoch: "e1", offset: 4 } });
    expect(gateway.of("sync:subscribe").map(({ data }) => data)).toEqual([{ channel: "board:1" }]);
    publish(5);
    await flushed();
    expect(heard).toEqual([["p5", 5]]);
    expect(board.position).toEqual({ epoch: "e1", offset: 5 });
  });

  test("an object is subscribed once for any number of calls", async () => {
    const first = board.subscribe();
    expect(board.subscribe()).toBe(first);
    await first;
    expect(board.subscribe()).toBe(first);
    expect(gateway.of("sync:subscribe")).toHaveLength(1);
  });

  test("an invalid name is refused", () => {
    expect(() => client.channel("Board 1")).toThrow(expect.objectContaining({ code: "invalid_request" }));
  });

  test("missed publications arrive in order before live ones, also in one packet", async () => {
    gateway.onRequest = ({ answer, data }) => {
      answer({
        ok: true,
        channel: data.channel,
        position: { epoch: "e1", offset: 4 },
        recovered: true,
        publications: [publication(3), publication(4)],
      });
      for (let offset = 5; offset < 50; offset++) publish(offset);
      return true;
    };
    const subscribed = await board.subscribe({ position: { epoch: "e1", offset: 2 } });
    expect(subscribed).toEqual({ recovered: true, position: { epoch: "e1", offset: 4 } });
    await flushed();
    expect(heard.map(([, offset]) => offset)).toEqual(Array.from({ length: 47 }, (_, index) => index + 3));
    expect(gateway.of("sync:subscribe")[0]?.data.position).toEqual({ epoch: "e1", offset: 2 });
  });

  test("a repeated publication is dropped, an ephemeral one does not move the position", async () => {
    await board.subscribe();
    for (const offset of [1, 2, 2, 1, 3]) publish(offset);
    gateway.socket.emit("moved", "now", { channel: "board:1" });
    await flushed();
    expect(heard).toEqual([
      ["p1", 1],
      ["p2", 2],
      ["p3", 3],
      ["now", undefined],
    ]);
    expect(board.position).toEqual({ epoch: "e1", offset: 3 });
  });

  test("a reconnect resumes after the last publication seen", async () => {
    await board.subscribe();
    publish(1);
    await flushed();
    gateway.onRequest = ({ answer, data }) => {
      const position = { epoch: "e1", offset: 3 };
      const publications = [publication(1), publication(2), publication(3)];
      answer({ ok: true, channel: data.channel, position, recovered: true, publications });
      return true;
    };
    gateway.cut();
    const again = await gateway.request("sync:subscribe", 2);
    expect(again.data).toEqual({ channel: "board:1", position: { epoch: "e1", offset: 1 } });
    await eventually(() => heard.length === 3);
    expect(heard.map(([, offset]) => offset)).toEqual([1, 2, 3]);
  });

  test("a reconnect that history cannot bridge calls onResync", async () => {
    await board.subscribe();
    const position = { epoch: "e2", offset: 7 };
    gateway.onRequest = ({ answer, data }) => {
      answer({
        ok: true,
        channel: data.channel,
        position,
        recovered: false,
        reason: "epoch_changed",
        publications: [],
      });
      return true;
    };
    const resync = new Promise((resolve) => board.onResync(resolve));
    gateway.cut();
    expect(await resync).toEqual({ channel: "board:1", position, reason: "epoch_changed" });
    publish(8);
    await flushed();
    expect(board.position).toEqual({ epoch: "e2", offset: 8 });
  });

  test("a first answer without recovery resolves subscribe and calls no onResync", async () => {
    let resyncs = 0;
    board.onResync(() => resyncs++);
    const position = { epoch: "e1", offset: 900 };
    gateway.onRequest = ({ answer }) => {
      answer({ ok: true, channel: "board:1", position, recovered: false, reason: "history_trimmed", publications: [] });
      return true;
    };
    const subscribed = await board.subscribe({ position: { epoch: "e1", offset: 2 } });
    expect(subscribed).toEqual({ recovered: false, position, reason: "history_trimmed" });
    expect(resyncs).toBe(0);
  });

  test("sync:resync moves the position, also backwards, and calls onResync", async () => {
    await board.subscribe();
    publish(9);
    const reported = new Promise((resolve) => board.onResync(resolve));
    const resync = { channel: "board:1", position: { epoch: "e1", offset: 5 }, reason: "position_ahead" };
    gateway.socket.emit("sync:resync", resync);
    publish(6);
    expect(await reported).toEqual(resync);
    await flushed();
    expect(heard.map(([, offset]) => offset)).toEqual([9, 6]);
  });

  test("a revoked channel stays unsubscribed, also across a reconnect, until subscribe()", async () => {
    await board.subscribe();
    const ended = new Promise((resolve) => board.onEnd(resolve));
    gateway.socket.emit("sync:revoked", { channel: "board:1", reason: "left the team" });
    publish(1);
    expect(await ended).toEqual({ channel: "board:1", code: "revoked", reason: "left the team" });
    await flushed();
    gateway.cut();
    await reached(client, "waiting");
    await reached(client, "connected");
    expect(gateway.of("sync:subscribe")).toHaveLength(1);
    await board.subscribe();
    publish(2);
    await flushed();
    expect(heard).toEqual([["p2", 2]]);
  });

  test("a final refusal rejects subscribe, calls onEnd, and is not retried", async () => {
    gateway.onRequest = ({ answer }) => {
      answer({ ok: false, error: { code: "channel_not_allowed", message: "no", retryable: false } });
      return true;
    };
    const ended = new Promise((resolve) => board.onEnd(resolve));
    await expect(board.subscribe()).rejects.toMatchObject({ code: "channel_not_allowed" });
    expect(await ended).toEqual({ channel: "board:1", code: "channel_not_allowed", reason: "no" });
    await flushed();
    expect(gateway.of("sync:subscribe")).toHaveLength(1);
  });

  test("SDK-15: subscribe() in onEnd of a refused channel is sent with growing pauses", async () => {
    gateway.onRequest = ({ answer }) => {
      answer({ ok: false, error: { code: "channel_not_allowed", message: "no", retryable: false } });
      return true;
    };
    const pausing = open({ random: () => 0.2 });
    await reached(pausing, "connected");
    const room = pausing.channel("room:1");
    const endedAtMs: number[] = [];
    const fourth = new Promise<void>((resolve) => {
      room.onEnd(() => {
        endedAtMs.push(performance.now());
        if (endedAtMs.length === 4) resolve();
        else void room.subscribe();
      });
    });
    void room.subscribe();
    await fourth;
    const pausesMs = endedAtMs.slice(1).map((atMs, index) => atMs - (endedAtMs[index] ?? 0));
    for (const [index, pauseMs] of pausesMs.entries()) expect(pauseMs).toBeGreaterThanOrEqual(199 * 2 ** index);
    expect(gateway.of("sync:subscribe")).toHaveLength(4);
  });

  test("SDK-14: an unsubscribe that the gateway refuses for now is repeated until no subscription is left", async () => {
    const refused = { code: "rate_limited", message: "", retryable: true, retryAfterMs: 0 } as const;
    const left = { ...refused, code: "not_subscribed", retryable: false } as const;
    gateway.onRequest = (request) => {
      if (request.event !== "sync:unsubscribe") return gateway.grant(request);
      request.answer({ ok: false, error: gateway.of("sync:unsubscribe").length < 3 ? refused : left });
      return true;
    };
    await board.subscribe();
    board.unsubscribe();
    publish(1);
    await gateway.request("sync:unsubscribe", 3);
    const again = board.subscribe();
    await gateway.request("sync:subscribe", 2);
    await again;
    expect(gateway.of("sync:unsubscribe")).toHaveLength(3);
    expect(heard).toEqual([]);
  });

  test("a retryable refusal is retried until the gateway grants the channel", async () => {
    gateway.onRequest = (request) => {
      if (gateway.of("sync:subscribe").length > 2) return gateway.grant(request);
      const error = { code: "broker_unavailable", message: "later", retryable: true, retryAfterMs: 10 };
      request.answer({ ok: false, error });
      return true;
    };
    expect(await board.subscribe()).toMatchObject({ recovered: false });
    expect(gateway.of("sync:subscribe")).toHaveLength(3);
  });

  test("an error in a listener stops neither the other listeners nor the position", async () => {
    const thrown: unknown[] = [];
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => thrown.push(error));
    try {
      const broken = client.channel("board:2");
      const seen: unknown[] = [];
      broken.on("moved", () => {
        throw new Error("a bug of the application");
      });
      broken.on("moved", (data) => seen.push(data));
      await broken.subscribe();
      gateway.socket.emit("moved", "a", { channel: "board:2", offset: 1 });
      gateway.socket.emit("moved", "b", { channel: "board:2", offset: 2 });
      await flushed();
      expect(seen).toEqual(["a", "b"]);
      await eventually(() => thrown.length === 2);
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const listener of others) process.on("uncaughtException", listener);
    }
  });

  test("history reads after an offset of the channel's own epoch", async () => {
    await board.subscribe();
    const position = { epoch: "e1", offset: 2 };
    gateway.onRequest = ({ answer }) => (answer({ ok: true, position, publications: [publication(2)] }), true);
    expect(await board.history({ after: 1, limit: 10 })).toEqual({ position, publications: [publication(2)] });
    expect(gateway.of("sync:history")[0]?.data).toEqual({ channel: "board:1", epoch: "e1", after: 1, limit: 10 });
    client.close();
    await expect(board.history()).rejects.toMatchObject({ code: "closed" });
  });
});

describe("client channel, with quick changes", () => {
  test("unsubscribe during an open subscribe delivers nothing and unsubscribes afterwards", async () => {
    gateway.onRequest = () => false;
    await reached(client, "connected");
    const subscribed = board.subscribe();
    const subscribe = await gateway.request("sync:subscribe");
    board.unsubscribe();
    await expect(subscribed).rejects.toMatchObject({ code: "unsubscribed" });
    const position = { epoch: "e1", offset: 1 };
    subscribe.answer({ ok: true, channel: "board:1", position, recovered: true, publications: [publication(1)] });
    publish(2);
    (await gateway.request("sync:unsubscribe")).answer({ ok: true });
    await flushed();
    expect(heard).toEqual([]);
  });

  test("of several quick changes only the last one counts, with one request at a time", async () => {
    gateway.onRequest = () => false;
    await reached(client, "connected");
    void board.subscribe();
    const first = await gateway.request("sync:subscribe");
    board.unsubscribe();
    void board.subscribe();
    board.unsubscribe();
    const last = board.subscribe({ position: { epoch: "e1", offset: 5 } });
    expect(gateway.requests).toHaveLength(1);
    gateway.onRequest = (request) => gateway.grant(request);
    gateway.grant(first);
    expect(await last).toMatchObject({ recovered: true });
    expect(gateway.requests.map(({ event, data }) => [event, data.position])).toEqual([
      ["sync:subscribe", undefined],
      ["sync:unsubscribe", undefined],
      ["sync:subscribe", { epoch: "e1", offset: 5 }],
    ]);
  });

  test("a subscribe whose connection is lost is repeated, and its promise resolves", async () => {
    gateway.onRequest = () => false;
    await reached(client, "connected");
    const subscribed = board.subscribe({ position: { epoch: "e1", offset: 3 } });
    await gateway.request("sync:subscribe");
    gateway.onRequest = (request) => gateway.grant(request);
    gateway.cut();
    expect(await subscribed).toMatchObject({ recovered: true });
    const asked = gateway.of("sync:subscribe").map(({ data }) => data.position);
    expect(asked).toEqual([
      { epoch: "e1", offset: 3 },
      { epoch: "e1", offset: 3 },
    ]);
  });

  test("unsubscribe in a listener ends the replay", async () => {
    board.on("moved", () => board.unsubscribe());
    gateway.onRequest = (request) => {
      const publications = [publication(1), publication(2), publication(3)];
      const position = { epoch: "e1", offset: 3 };
      if (request.event !== "sync:subscribe") return gateway.grant(request);
      request.answer({ ok: true, channel: "board:1", position, recovered: true, publications });
      return true;
    };
    await expect(board.subscribe({ position: { epoch: "e1", offset: 0 } })).rejects.toMatchObject({
      code: "unsubscribed",
    });
    await gateway.request("sync:unsubscribe");
    expect(heard).toEqual([["p1", 1]]);
  });

  test("a new subscribe in a listener begins at the position it passes", async () => {
    const start = { epoch: "e1", offset: 0 };
    const stop = board.on("moved", () => {
      stop();
      board.unsubscribe();
      void board.subscribe({ position: start });
    });
    gateway.onRequest = (request) => {
      if (gateway.of("sync:subscribe").length > 1 || request.event !== "sync:subscribe") return gateway.grant(request);
      const position = { epoch: "e1", offset: 3 };
      request.answer({ ok: true, channel: "board:1", position, recovered: true, publications: [publication(3)] });
      return true;
    };
    void board.subscribe({ position: { epoch: "e1", offset: 2 } });
    expect((await gateway.request("sync:subscribe", 2)).data.position).toEqual(start);
  });

  test("a channel first used in a listener of the connected state is subscribed once", async () => {
    const asked = new Promise((resolve) => {
      client.onState((state) => {
        if (state.status === "connected") resolve(client.channel("board:9").subscribe());
      });
    });
    await asked;
    expect(gateway.of("sync:subscribe")).toHaveLength(1);
  });

  test("close rejects open subscribes and ends all deliveries", async () => {
    await board.subscribe();
    const other = client.channel("board:2");
    gateway.onRequest = () => false;
    const pending = other.subscribe();
    client.close();
    publish(1);
    await expect(pending).rejects.toMatchObject({ code: "closed" });
    await expect(board.subscribe()).rejects.toMatchObject({ code: "closed" });
    expect(heard).toEqual([]);
  });
});
