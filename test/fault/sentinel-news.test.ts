/** Sentinels that disagree, or change their answer at the worst moment. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let connections: RedisConnections;
const servers: Server[] = [];
const sockets = new Set<Socket>();
beforeEach(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await connections.stop();
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  await redis.stop();
});

async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onConnection(socket);
  }).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

function bulk(...parts: string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${part.length}\r\n${part}\r\n`).join("")}`;
}

interface Opinion {
  port: number;
  epoch: number;
  questions: number;
}

/** A fake sentinel. @returns its address. */
async function startSentinel(opinion: Opinion): Promise<string> {
  const port = await listen((socket) => {
    socket.on("data", (chunk) => {
      // One array per command.
      const commands = chunk
        .toString()
        .toLowerCase()
        .split(/\*\d+\r\n/);
      for (const command of commands.slice(1)) {
        const names = command.includes("get-master-addr-by-name");
        if (names) opinion.questions++;
        socket.write(
          names
            ? bulk("127.0.0.1", String(opinion.port))
            : bulk("name", "tidegate", "config-epoch", `${opinion.epoch}`),
        );
      }
    });
  });
  return `127.0.0.1:${port}`;
}

async function follow(...sentinels: string[]): Promise<void> {
  const target = { kind: "sentinel", sentinels, master: "tidegate" } as const;
  connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
}

/** The port of the server that gets commands. */
async function portInUse(): Promise<number> {
  return Number(/tcp_port:(\d+)/.exec(await connections.run<string>("info", "server"))?.[1]);
}

test("SENT-4: a node leaves a hanging server when a sentinel names another", async () => {
  let hanging = 0;
  const opinion = { port: await listen(() => hanging++), epoch: 1, questions: 0 };
  const started = follow(await startSentinel(opinion));
  await eventually(() => hanging > 0);
  expect(connections.state).toBe("away");
  opinion.port = redis.port;
  opinion.epoch = 2;
  await started;
  await eventually(() => connections.state === "ok");
  expect(await portInUse()).toBe(redis.port);
});

test("SENT-5: the newest configuration wins, however many sentinels are behind or hang", async () => {
  const former = await startRedis();
  const opinions = [1, 2].map(() => ({ port: former.port, epoch: 4, questions: 0 }));
  const [leader] = opinions as [Opinion, Opinion];
  const hanging = `127.0.0.1:${await listen(() => undefined)}`;
  await follow(hanging, ...(await Promise.all(opinions.map(startSentinel))));
  await eventually(() => connections.state === "ok");
  expect(await portInUse()).toBe(former.port);

  // No connection was closed, and the former primary still takes writes.
  Object.assign(leader, { port: redis.port, epoch: 5 });
  // A command under way at the change of the primary fails.
  const port = async (): Promise<number | undefined> => portInUse().catch(() => undefined);
  await eventually(async () => connections.state === "ok" && (await port()) === redis.port);
  await eventually(async () => {
    const topics = (await asked(former, (client) => client.call("PUBSUB", "SHARDCHANNELS"))) as string[];
    return topics.length === 0;
  });
  const stale = opinions.map(({ questions }) => questions);
  await eventually(() => opinions.every(({ questions }, n) => questions > (stale[n] ?? 0)));
  expect(await portInUse()).toBe(redis.port);
  await former.stop();
});
