/** Requests for new connections, from the door to the engine: what arrives, leaves or fails while they wait. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { guardDoor } from "../../gateway/engine/door.ts";
import { originPolicy } from "../../gateway/entrance/allowed-origins.ts";
import type { Arrival } from "../../gateway/entrance/upgrade-gate.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { upgradeRequest } from "../support/raw-websocket.ts";

let server: Server;
let errors: ContainedErrors;
/** Requests that wait until the test opens or refuses them. */
let arrivals: Arrival[];
let clients: Socket[];
/** In place of the engine. */
let onUpgrade: (socket: Socket, head: Buffer) => void;

beforeEach(async () => {
  [arrivals, clients] = [[], []];
  errors = new ContainedErrors(quietLogger);
  server = createServer((_request, response) => response.end("polled"));
  server.on("upgrade", (_request, socket: Socket, head) => onUpgrade(socket, head));
  guardDoor(server, {
    path: "/socket.io/",
    origins: originPolicy(["*"]),
    addressOf: () => "192.0.2.1",
    onArrival: (arrival) => arrivals.push(arrival),
    onUpgraded: () => undefined,
    errors,
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  server.close();
  await once(server, "close");
});

/** @returns the connection once its request waits. */
async function arrive(request: string): Promise<{ socket: Socket; received: () => string; arrival: Arrival }> {
  const { port } = server.address() as AddressInfo;
  const before = arrivals.length;
  const socket = connect(port, "127.0.0.1");
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
  const { port } = server.address() as AddressInfo;
  return upgradeRequest(new URL(`http://127.0.0.1:${port}`));
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
  const { socket, received, arrival } = await arrive(`${upgrade()}head`);
  await new Promise((resolve) => socket.write(", then more", resolve));
  arrival.open();
  await eventually(() => parts.join("") === "head, then more");
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
  expect(errors.counts.http).toBe(1);
  expect(other.arrival.gone).toBe(false);
});
