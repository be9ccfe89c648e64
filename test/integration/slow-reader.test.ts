/** A client that does not read. */
import { connect, type Socket } from "node:net";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ rules: { namespaces: { board: { historySize: 1_000 } } } });
});
afterEach(closeClients);
afterAll(() => fleet.stop());

function maskedFrame(text: string): Buffer {
  const payload = Buffer.from(text);
  const mask = randomBytes(4);
  const head =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0xfe, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0))]);
}

/** A Socket.IO session by hand, on a socket that can stop reading. */
async function rawClient(url: URL, channel: string): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname);
  await once(socket, "connect");
  let seen = "";
  const saw = async (text: string): Promise<void> => {
    while (!seen.includes(text)) seen += String((await once(socket, "data"))[0]);
  };
  const key = randomBytes(16).toString("base64");
  socket.write(
    `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: ${url.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
  );
  await saw("pingInterval");
  socket.write(maskedFrame(`40${JSON.stringify({ token: await userToken() })}`));
  await saw("sync:welcome");
  socket.write(maskedFrame(`420${JSON.stringify(["sync:subscribe", { channel }])}`));
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
