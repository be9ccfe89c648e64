/** A sentinel whose news comes at the worst moment. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const master = "tidegate";
let redis: RedisServer;
let connections: RedisConnections;
let sentinel: Server;
const sockets = new Set<Socket>();
afterEach(async () => {
  await connections.stop();
  for (const socket of sockets) socket.destroy();
  sentinel.close();
  await redis.stop();
});

function bulk(...parts: string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${part.length}\r\n${part}\r\n`).join("")}`;
}

test("SENT-4: a node that hears of a failover while it asks where the primary is comes back all the same", async () => {
  redis = await startRedis();
  /** Those that wait for news. */
  const listening = new Set<Socket>();
  const asking: Socket[] = [];
  let untimely = false;
  function answer(socket: Socket, command: string): void {
    const address = bulk("127.0.0.1", String(redis.port));
    if (command.includes("get-master-addr-by-name")) {
      if (!untimely) {
        socket.write(address);
        return;
      }
      asking.push(socket);
      // The connection for commands and the one for subscriptions.
      if (asking.length < 2) return;
      untimely = false;
      for (const listener of listening) listener.write(bulk("message", "+switch-master", "news"));
      setTimeout(() => {
        for (const waiting of asking) waiting.write(address);
      }, 100);
    } else if (command.includes("subscribe")) {
      listening.add(socket);
      socket.write("*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n");
    } else socket.write("+OK\r\n");
  }
  sentinel = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => listening.delete(socket));
    socket.on("data", (chunk) => {
      // One array of words for each command.
      for (const command of chunk
        .toString()
        .toLowerCase()
        .split(/\*\d+\r\n/)
        .slice(1))
        answer(socket, command);
    });
  }).listen(0, "127.0.0.1");
  await once(sentinel, "listening");
  const { port } = sentinel.address() as AddressInfo;
  const target = { kind: "sentinel", sentinels: [`127.0.0.1:${port}`], master } as const;
  connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  await eventually(() => listening.size >= 2 && connections.state === "ok");

  untimely = true;
  const ended = new Promise<void>((resolve) => connections.commands.once("end", () => resolve()));
  await redis.kill();
  await ended;
  await redis.restart();
  await eventually(() => connections.state === "ok", 20_000);
  expect(await connections.run("get", "tidegate:{1}:nothing")).toBeNull();
});
