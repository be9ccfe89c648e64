/** Grants, subscriptions by the server, and presence. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Channel, Client, JoinLeave } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached, type Request } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let client: Client;
const { open, closeAll } = clientsOf(() => gateway);
const position = { epoch: "e1", offset: 4 };

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  client = open();
  await reached(client, "connected");
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

async function reconnect(): Promise<void> {
  gateway.cut();
  await reached(client, "waiting");
  await reached(client, "connected");
}

function subscribes(): Request["data"][] {
  return gateway.of("sync:subscribe").map(({ data }) => data);
}

function grantWith(grant: string | undefined): void {
  gateway.onRequest = ({ answer, data }) => {
    const ack = { channel: data.channel, position, recovered: true, publications: [] };
    answer({ ok: true, ...ack, ...(grant !== undefined && { grant }) });
    return true;
  };
}

function nextEnd(channel: Channel): Promise<unknown> {
  return new Promise((resolve) => {
    const stop = channel.onEnd((end) => {
      stop();
      resolve(end);
    });
  });
}

describe("client grants", () => {
  test("SDK-3: each subscribe presents the newest grant of its own channel", async () => {
    grantWith("grant-1");
    const board = client.channel("board:1");
    await board.subscribe();
    grantWith("grant-2");
    await reconnect();
    await gateway.request("sync:subscribe", 2);
    grantWith(undefined);
    board.unsubscribe();
    await board.subscribe();
    await client.channel("board:2").subscribe();
    expect(subscribes()).toEqual([
      { channel: "board:1" },
      { channel: "board:1", position, grant: "grant-1" },
      { channel: "board:1", grant: "grant-2" },
      { channel: "board:2" },
    ]);
  });

  test("a revoked or refused channel loses its grant", async () => {
    const board = client.channel("board:1");
    grantWith("grant-1");
    await board.subscribe();
    const revoked = nextEnd(board);
    gateway.socket.emit("sync:revoked", { channel: "board:1", reason: "left" });
    await revoked;
    grantWith("grant-2");
    await board.subscribe();
    const refused = nextEnd(board);
    const error = { code: "channel_not_allowed", message: "no", retryable: false };
    gateway.onRequest = ({ answer }) => (answer({ ok: false, error }), true);
    gateway.cut();
    await refused;
    grantWith(undefined);
    await board.subscribe();
    expect(subscribes().map(({ grant }) => grant)).toEqual([undefined, undefined, "grant-2", undefined]);
  });
});

describe("client subscribed by the server", () => {
  const subscribed = { channel: "news:1", position, grant: "sealed" };

  test("SDK-3: onSubscribed precedes the first publication, and reconnects keep the channel", async () => {
    const heard: unknown[] = [];
    client.onSubscribed((channel) => {
      heard.push(channel.name, channel.position);
      channel.on("item", (data) => heard.push(data));
    });
    gateway.socket.emit("sync:subscribed", subscribed);
    gateway.socket.emit("item", "first", { channel: "news:1", offset: 5 });
    await eventually(() => heard.length === 3);
    expect(heard).toEqual(["news:1", position, "first"]);
    await reconnect();
    const again = await gateway.request("sync:subscribe");
    expect(again.data).toEqual({ channel: "news:1", position: { epoch: "e1", offset: 5 }, grant: "sealed" });
    const joined = { recovered: false, position: { epoch: "e1", offset: 5 } };
    expect(await client.channel("news:1").subscribe()).toEqual(joined);
  });

  test("the subscription ends by unsubscribe or by the server, and may be made again", async () => {
    const news = client.channel("news:1");
    let count = 0;
    client.onSubscribed(() => count++);
    const ended = nextEnd(news);
    gateway.socket.emit("sync:subscribed", subscribed);
    gateway.socket.emit("sync:revoked", { channel: "news:1", reason: "over" });
    expect(await ended).toMatchObject({ code: "revoked", reason: "over" });
    gateway.socket.emit("sync:subscribed", subscribed);
    await eventually(() => count === 2);
    news.unsubscribe();
    await gateway.request("sync:unsubscribe");
    await reconnect();
    expect(subscribes()).toEqual([]);
  });

  test("a channel that the application has requested gets the grant but no onSubscribed", async () => {
    let count = 0;
    client.onSubscribed(() => count++);
    const later = { code: "upstream_unavailable", message: "later", retryable: true, retryAfterMs: 60_000 };
    gateway.onRequest = ({ answer }) => (answer({ ok: false, error: later }), true);
    const answer = client.channel("news:1").subscribe();
    await gateway.request("sync:subscribe");
    const [first] = gateway.of("sync:subscribe");
    grantWith(undefined);
    first?.socket.emit("sync:subscribed", subscribed);
    expect(await answer).toEqual({ recovered: true, position });
    expect(subscribes()[1]).toEqual({ channel: "news:1", grant: "sealed" });
    expect(count).toBe(0);
  });
});

describe("client presence", () => {
  test("presence returns the members, or their number", async () => {
    const board = client.channel("board:1");
    await board.subscribe();
    const members = [{ user: "ada", connections: 2, info: { name: "Ada" } }];
    gateway.onRequest = ({ answer }) => (answer({ ok: true, members }), true);
    expect(await board.presence()).toEqual({ members });
    gateway.onRequest = ({ answer }) => (answer({ ok: true, count: 20_000 }), true);
    expect(await board.presence()).toEqual({ count: 20_000 });
    expect(gateway.of("sync:presence")[0]?.data).toEqual({ channel: "board:1" });
    client.close();
    await expect(board.presence()).rejects.toMatchObject({ code: "closed" });
  });

  test("joins and leaves are reported while the channel is subscribed", async () => {
    const board = client.channel("board:1");
    const heard: [string, JoinLeave][] = [];
    board.onJoin((join) => heard.push(["join", join]));
    board.onLeave((leave) => heard.push(["leave", leave]));
    await board.subscribe();
    gateway.socket.emit("sync:join", { channel: "board:1", user: "grace", info: 1 });
    gateway.socket.emit("sync:leave", { channel: "board:1", user: "grace", info: 1 });
    await eventually(() => heard.length === 2);
    expect(heard).toEqual([
      ["join", { channel: "board:1", user: "grace", info: 1 }],
      ["leave", { channel: "board:1", user: "grace", info: 1 }],
    ]);
    board.unsubscribe();
    gateway.socket.emit("sync:join", { channel: "board:1", user: "alan" });
    await client.call("done");
    expect(heard).toHaveLength(2);
  });
});
