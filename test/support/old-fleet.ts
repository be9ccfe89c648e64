/** Servers and clients of a fleet that runs plain Socket.IO with an adapter, as most do. */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { io as connect, type Socket } from "socket.io-client";
import { eventually } from "./eventually.ts";

export type OldAdapter = "classic" | "sharded" | "sharded-dynamic" | "streams";

export interface OldServer {
  readonly io: Server;
  readonly url: string;
  stop(): Promise<void>;
}

/** A client joins a room with the event `join`. What an old server does beside that is done through `io`. */
export async function startOldServer(
  redisUrl: string,
  adapter: OldAdapter = "classic",
  key = "socket.io",
): Promise<OldServer> {
  const name = randomUUID();
  const clients = [openRedis(redisUrl, name), openRedis(redisUrl, name)] as const;
  const http = createServer();
  const io = new Server(http, { adapter: adapterOf(adapter, key, clients) });
  io.on("connection", (socket) => {
    socket.on("join", async (room: string, joined: () => void) => {
      await socket.join(room);
      joined();
    });
  });
  // It gets what is emitted from now on.
  if (adapter === "streams") await eventually(async () => readsStream(clients[0], name));
  else await clients[1].ping();
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  return {
    io,
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    stop: async () => {
      await io.close();
      // The adapters catch no failure: what they have sent is answered first.
      await Promise.all(clients.map(async (client) => client.quit()));
    },
  };
}

/** Whether connections of this name, which the adapter's copies share, wait for entries of the stream and for messages beside it. */
async function readsStream(redis: Redis, name: string): Promise<boolean> {
  const own = String(await redis.client("LIST"))
    .split("\n")
    .filter((line) => line.includes(` name=${name} `));
  return ["xread", "subscribe"].every((command) => own.some((line) => line.includes(` cmd=${command} `)));
}

export interface OldClient {
  readonly socket: Socket;
  /** Every event, in order. */
  readonly received: readonly { event: string; args: unknown[] }[];
}

export async function connectOldClient(url: string, rooms: readonly string[]): Promise<OldClient> {
  const socket = connect(url, { transports: ["websocket"], forceNew: true, reconnection: false });
  const received: { event: string; args: unknown[] }[] = [];
  socket.onAny((event: string, ...args: unknown[]) => received.push({ event, args }));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  for (const room of rooms) await socket.emitWithAck("join", room);
  return { socket, received };
}

/** The caller disconnects it. @param connectionName shown in the list of connections */
export function openRedis(url: string, connectionName?: string): Redis {
  const client = new Redis(url, { protocol: 2, ...(connectionName !== undefined && { connectionName }) });
  // A server that is stopped, or restarted, in a test.
  client.on("error", () => undefined);
  return client;
}

function adapterOf(adapter: OldAdapter, key: string, [publisher, subscriber]: readonly [Redis, Redis]): never {
  const adapters = {
    classic: () => createAdapter(publisher, subscriber, { key }),
    sharded: () => createShardedAdapter(publisher, subscriber, { channelPrefix: key, subscriptionMode: "static" }),
    "sharded-dynamic": () => createShardedAdapter(publisher, subscriber, { channelPrefix: key }),
    streams: () => createStreamsAdapter(publisher, { streamName: key, channelPrefix: key }),
  };
  return adapters[adapter]() as never;
}
