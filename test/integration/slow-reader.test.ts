/** A client that does not read. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { openRawWebsocket, textFrame } from "../support/raw-websocket.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ rules: { namespaces: { board: { historySize: 1_000 } } } });
});
afterEach(closeClients);
afterAll(() => fleet.stop());

/** A subscribed session on a socket that can stop reading. */
async function rawClient(url: URL, channel: string): Promise<Socket> {
  const socket = await openRawWebsocket(url);
  let seen = "";
  const saw = async (text: string): Promise<void> => {
    while (!seen.includes(text)) seen += String((await once(socket, "data"))[0]);
  };
  socket.write(textFrame(`40${JSON.stringify({ token: await userToken() })}`));
  await saw("sync:welcome");
  socket.write(textFrame(`420${JSON.stringify(["sync:subscribe", { channel }])}`));
  await saw("430[");
  return socket;
}

test("SLOW-1: past 1 MiB waiting, a client that does not read is closed as slow_consumer; others miss nothing", async () => {
  const channel = "board:flood";
  const url = fleet.urls[0] ?? "";
  const reader = await connectClient(url);
  await reader.subscribe(channel);
  const slow = await rawClient(new URL(url), channel);
  slow.pause();
  const { adminDoor } = fleet.gateways[0] ?? {};
  const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${adminDoor?.port}/metrics`)).text();

  let published = 0;
  const data = "x".repeat(60_000);
  while (!(await metrics()).includes('tidegate_disconnects_total{reason="slow_consumer"} 1')) {
    const answer = await fleet.api("POST", "/v1/publish", { channel, event: "moved", data });
    expect(answer.status).toBe(200);
    published++;
    expect(published).toBeLessThan(1_000);
  }
  await eventually(() => fleet.gateways[0]?.sessionCount === 1);
  await reader.next((item) => (item.meta as { offset: number }).offset === published);
  expect(reader.received.map((item) => (item.meta as { offset: number }).offset)).toEqual(
    Array.from({ length: published }, (_, i) => i + 1),
  );
  slow.destroy();
});
