/** Several objects of one channel, as several components of a page use it. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Channel, Client } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let client: Client;
const { open, closeAll } = clientsOf(() => gateway);

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

/** What one component hears: offsets, and the code of an end. */
function component(): { board: Channel; heard: unknown[] } {
  const board = client.channel("board:1");
  const heard: unknown[] = [];
  board.on("moved", (_, { offset }) => heard.push(offset));
  board.onEnd(({ code }) => heard.push(code));
  return { board, heard };
}

/** Resolves when the client has received everything sent so far. */
async function publish(...offsets: number[]): Promise<void> {
  for (const offset of offsets) gateway.socket.emit("moved", null, { channel: "board:1", offset });
  await flushed();
}

async function flushed(): Promise<void> {
  const marker = new Promise((resolve) => {
    const stop = client.onMessage("flushed", () => resolve(stop()));
  });
  gateway.socket.emit("flushed", null, { user: true });
  await marker;
}

const sent = (): string[] => gateway.requests.map(({ event }) => event);

describe("client channel, used by several components", () => {
  test("SDK-14: unsubscribe() silences its own object only; the last one ends the subscription", async () => {
    const [one, two] = [component(), component()];
    await Promise.all([one.board.subscribe(), two.board.subscribe()]);
    await publish(1);
    one.board.unsubscribe();
    one.board.unsubscribe();
    await publish(2);
    expect([one.heard, two.heard]).toEqual([[1], [1, 2]]);
    expect(one.board.position).toEqual({ epoch: "e1", offset: 1 });
    expect(sent()).toEqual(["sync:subscribe"]);
    two.board.unsubscribe();
    await gateway.request("sync:unsubscribe");
    await publish(3);
    expect([one.heard, two.heard]).toEqual([[1], [1, 2]]);
  });

  test("SDK-14: subscribe, unsubscribe and subscribe in one turn end in one subscription", async () => {
    const first = component();
    const abandoned = first.board.subscribe();
    first.board.unsubscribe();
    const second = component();
    await second.board.subscribe();
    await expect(abandoned).rejects.toMatchObject({ code: "unsubscribed" });
    await publish(1);
    expect([first.heard, second.heard]).toEqual([[], [1]]);
    expect(sent().filter((event) => event === "sync:subscribe").length).toBeLessThanOrEqual(2);
  });

  test("SDK-14: an object that joins a subscription starts at the channel's current position", async () => {
    const [one, two, three] = [component(), component(), component()];
    gateway.onRequest = () => false;
    const first = one.board.subscribe({ position: { epoch: "e1", offset: 0 } });
    const second = two.board.subscribe({ position: { epoch: "e1", offset: 1 } });
    const position = { epoch: "e1", offset: 2 };
    const publications = [1, 2].map((offset) => ({ offset, event: "moved", data: null }));
    const request = await gateway.request("sync:subscribe");
    request.answer({ ok: true, channel: "board:1", position, recovered: true, publications });
    expect(await first).toEqual({ recovered: true, position });
    expect(await second).toEqual({ recovered: false, position });
    await publish(3);
    const now = { epoch: "e1", offset: 3 };
    expect(await three.board.subscribe({ position: now })).toEqual({ recovered: true, position: now });
    await publish(4);
    expect([one.heard, two.heard]).toEqual([
      [1, 2, 3, 4],
      [3, 4],
    ]);
    expect(sent()).toEqual(["sync:subscribe"]);
  });

  test("SDK-14: after an end each object hears of it, and may subscribe alone", async () => {
    const [one, two] = [component(), component()];
    await Promise.all([one.board.subscribe(), two.board.subscribe()]);
    gateway.socket.emit("sync:revoked", { channel: "board:1", reason: "left the team" });
    await flushed();
    await two.board.subscribe();
    one.board.unsubscribe();
    await publish(1);
    expect([one.heard, two.heard]).toEqual([["revoked"], ["revoked", 1]]);
  });

  test("SDK-14: a subscription by the server outlives a component that joins it", async () => {
    const given = new Promise<Channel>((resolve) => client.onSubscribed(resolve));
    const [listener, joiner] = [component(), component()];
    gateway.socket.emit("sync:subscribed", { channel: "board:1", position: { epoch: "e1", offset: 0 }, grant: "g" });
    const channel = await given;
    await joiner.board.subscribe();
    joiner.board.unsubscribe();
    await publish(1);
    expect([listener.heard, joiner.heard]).toEqual([[1], []]);
    channel.unsubscribe();
    await gateway.request("sync:unsubscribe");
  });

  test("SDK-14: a clean-up after onEnd does not end a later subscription by the server", async () => {
    const [listener, earlier] = [component(), component()];
    await earlier.board.subscribe();
    gateway.socket.emit("sync:revoked", { channel: "board:1", reason: "left the team" });
    gateway.socket.emit("sync:subscribed", { channel: "board:1", position: { epoch: "e1", offset: 0 }, grant: "g" });
    await flushed();
    earlier.board.unsubscribe();
    await publish(1);
    expect([listener.heard, earlier.heard]).toEqual([["revoked", 1], ["revoked"]]);
    expect(sent()).toEqual(["sync:subscribe"]);
  });

  test("SDK-14: of the channels that nobody uses the client keeps the last hundred, with their grants", async () => {
    gateway.onRequest = (request) => {
      if (request.event !== "sync:subscribe") return gateway.grant(request);
      const { channel } = request.data;
      const position = { epoch: "e1", offset: 0 };
      request.answer({ ok: true, channel, position, recovered: true, publications: [], grant: `grant of ${channel}` });
      return true;
    };
    for (let number = 0; number <= 100; number++) {
      const board = client.channel(`board:${number}`);
      const stop = board.on("moved", () => undefined);
      await board.subscribe();
      if (number % 2) board.unsubscribe();
      stop();
      board.unsubscribe();
    }
    await eventually(() => gateway.of("sync:unsubscribe").length === 101);
    await flushed();
    const again = async (name: string): Promise<string | undefined> => {
      await client.channel(name).subscribe();
      return gateway.of("sync:subscribe").at(-1)?.data.grant;
    };
    expect(await again("board:0")).toBeUndefined();
    expect(await again("board:100")).toBe("grant of board:100");
  });
});
