/** Requests for new connections, from the door to the engine: what arrives, leaves or fails while they wait. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { guardDoor } from "../../gateway/engine/door.ts";
import { originPolicy } from "../../gateway/entrance/allowed-origins.ts";
import type { Arrival } from "../../gateway/entrance/upgrade-gate.ts";
import { eventually } from "../support/eventually.ts";
import { upgradeRequest } from "../support/raw-websocket.ts";
import { createTestDoor, type TestDoor } from "../support/test-door.ts";

let created: TestDoor;
/** Requests that wait until the test opens or refuses them. */
let arrivals: Arrival[];
let clients: Socket[];
/** In place of the engine. */
let onUpgrade: (socket: Socket, head: Buffer) => void;

beforeEach(async () => {
  [arrivals, clients] = [[], []];
  created = createTestDoor();
  const { door, errors } = created;
  const { server } = door.app;
  server.on("upgrade", (_request, socket: Socket, head: Buffer) => onUpgrade(socket, head));
  guardDoor(server, {
    path: "/socket.io/",
    transports: ["websocket"],
    origins: originPolicy(["*"]),
    addressOf: () => "192.0.2.1",
    onArrival: (arrival) => arrivals.push(arrival),
    onUpgraded: () => undefined,
    errors,
  });
  await door.start();
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await created.door.stop();
});

/** @returns the connection once its request waits. */
async function arrive(request: string): Promise<{ socket: Socket; received: () => string; arrival: Arrival }> {
  const before = arrivals.length;
  const socket = connect(created.door.port, "127.0.0.1");
  clients.push(socket);
  let received = "";
  socket.on("data", (chunk) => (received += String(chunk))).on("error", () => socket.destroy());
  socket.write(request);
  await eventually(() => arrivals.length > before);
  const arrival = arrivals.at(-1);
  if (!arrival) throw new Error("no arrival");
  return { socket, received: () => received, arrival };
}

function upgrade(): string {
  return upgradeRequest(new URL(`http://127.0.0.1:${created.door.port}`));
}

test.each(["end", "resetAndDestroy"] as const)(
  "LIM-16: a peer that leaves by %s while it waits is gone",
  async (leave) => {
    const { socket, arrival } = await arrive(upgrade());
    expect(arrival.gone).toBe(false);
    socket[leave]();
    await eventually(() => arrival.gone);
    socket.destroy();
  },
);

test("LIM-16: what a client sends while it waits reaches the engine, and its end does, too", async () => {
  const parts: string[] = [];
  let ended = false;
  onUpgrade = (socket, head) => {
    parts.push(String(head));
    socket.on("data", (chunk) => void parts.push(String(chunk)));
    socket.on("end", () => {
      ended = true;
      socket.end("over");
    });
  };
  // More than the door would pass on to the parser of requests.
  const large = "x".repeat(10_000);
  const { socket, received, arrival } = await arrive(`${upgrade()}${large}`);
  await new Promise((resolve) => socket.write(", then more", resolve));
  arrival.open();
  await eventually(() => parts.join("") === `${large}, then more`);
  socket.end();
  await eventually(() => ended && received() === "over");
});

test("CONT-1: an exception while a connection opens later closes that connection only", async () => {
  onUpgrade = () => {
    throw new Error("a bug");
  };
  const other = await arrive(upgrade());
  const { socket, arrival } = await arrive(upgrade());
  setImmediate(() => arrival.open());
  await once(socket, "close");
  expect(created.errors.counts.http).toBe(1);
  expect(other.arrival.gone).toBe(false);
});
