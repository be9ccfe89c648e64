/** A reset closes a connection in every state that it can be in. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { resetSocket } from "../../shared/http/reset-socket.ts";
import { eventually } from "../support/eventually.ts";
import { startFleet } from "../support/fleet.ts";
import { RawClient } from "../support/raw-client.ts";
import { encodeFrame, opcodes, pingFrame } from "../support/raw-websocket.ts";
import { userToken } from "../support/stock-client.ts";

let server: Server;
let client: Socket;
let accepted: Socket;

beforeEach(async () => {
  server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.on("error", () => client.destroy());
  [accepted] = (await once(server, "connection")) as [Socket];
  accepted.on("error", () => accepted.destroy());
});
afterEach(async () => {
  client.destroy();
  accepted.destroy();
  server.close();
  await once(server, "close");
});

/** The server closes only after each of its connections has. */
async function expectClosed(): Promise<void> {
  await once(accepted, "close");
}

test("DOOR-11: a reset closes an open connection, and its peer notices", async () => {
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once("error", resolve));
  resetSocket(accepted);
  await expectClosed();
  expect((await failed).code).toBe("ECONNRESET");
});

test("DOOR-11: a reset closes a connection whose peer does not read what precedes the end", async () => {
  accepted.end(Buffer.alloc(32 * 1024 * 1024));
  resetSocket(accepted);
  await expectClosed();
});

test("DOOR-11: a reset closes a connection while its output ends", async () => {
  const final = accepted._final.bind(accepted);
  accepted._final = (done) => {
    final(done);
    resetSocket(accepted);
  };
  accepted.end();
  await expectClosed();
});

test("DOOR-11: a reset closes a connection whose output has ended", async () => {
  accepted.end();
  await once(accepted, "finish");
  resetSocket(accepted);
  await expectClosed();
});

/** More than a connection may send at once. */
const hundredsOfPings = Array.from({ length: 200 }, () => pingFrame(""));

test("DOOR-11: a client that floods right behind a broken frame leaves no descriptor behind", async () => {
  const fleet = await startFleet({ environment: { GATEWAY_MESSAGES_PER_SECOND: "1" } });
  const door = fleet.gateways[0]?.publicDoor;
  const flooder = await RawClient.connect(new URL(fleet.urls[0] ?? ""), await userToken());
  // 128 KiB at once: the node reads no more for a while, and then reads what follows in two parts, in one turn.
  for (const bytes of [120, 60]) await flooder.request("doc.open", { text: "x".repeat(bytes * 1024) });
  for (const part of [encodeFrame(opcodes.text, Buffer.from("3"), { rsv: 4 }), Buffer.concat(hundredsOfPings)]) {
    await new Promise((resolve) => flooder.socket.write(part, resolve));
    for (let turns = 0; turns < 3; turns++) await nextTurn();
  }
  await flooder.closed;
  await eventually(() => door?.connections.total === 0);
  await fleet.stop();
});
