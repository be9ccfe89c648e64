/** A reset closes a connection in every state that it can be in. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { resetSocket } from "../../shared/http/reset-socket.ts";

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
  server.close();
  await once(server, "close");
});

/** The server closes only after each of its connections has. */
async function isClosed(): Promise<void> {
  await once(accepted, "close", { signal: AbortSignal.timeout(5_000) });
}

test("DOOR-11: a reset closes an open connection, and its peer notices", async () => {
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once("error", resolve));
  resetSocket(accepted);
  await isClosed();
  expect((await failed).code).toBe("ECONNRESET");
});

test("DOOR-11: a reset closes a connection whose peer does not read what precedes the end", async () => {
  accepted.end(Buffer.alloc(32 * 1024 * 1024));
  resetSocket(accepted);
  await isClosed();
});

test("DOOR-11: a reset closes a connection while its output ends", async () => {
  const final = accepted._final.bind(accepted);
  accepted._final = (done) => {
    final(done);
    resetSocket(accepted);
  };
  accepted.end();
  await isClosed();
});

test("DOOR-11: a reset closes a connection whose output has ended", async () => {
  accepted.end();
  await once(accepted, "finish");
  resetSocket(accepted);
  await isClosed();
});
