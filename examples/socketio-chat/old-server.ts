/**
 * The chat as it runs before the move: plain Socket.IO servers with the classic Redis adapter, any number of them. It knows nothing of Tidegate.
 *
 *   REDIS_URL=redis://… AUTH_JWT_SECRET=… PORT=3000 node examples/socketio-chat/old-server.ts
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { jwtVerify } from "jose";
import { Server, type Socket } from "socket.io";
import { setting } from "../shared/setting.ts";

export interface OldChatServer {
  readonly url: string;
  stop(): Promise<void>;
}

export interface OldChatOptions {
  redisUrl: string;
  jwtSecret: string;
  port: number;
}

interface Message {
  id: string;
  room: string;
  text: string;
}

export async function startOldChat({ redisUrl, jwtSecret, port }: OldChatOptions): Promise<OldChatServer> {
  const [publisher, subscriber] = [new Redis(redisUrl), new Redis(redisUrl)];
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber) });
  io.use((socket, next) => {
    const { token } = socket.handshake.auth as { token: string };
    jwtVerify(token, new TextEncoder().encode(jwtSecret)).then(
      ({ payload }) => {
        (socket.data as { user: unknown }).user = payload.sub;
        next();
      },
      () => next(new Error("unauthenticated")),
    );
  });
  io.on("connection", (socket) => addHandlers(io, socket));
  // The adapter has subscribed by then.
  await subscriber.ping();
  await new Promise<void>((resolve) => http.listen(port, resolve));
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    stop: async () => {
      await io.close();
      // The adapter catches no failure: what it has sent is answered first.
      await Promise.all([publisher.quit(), subscriber.quit()]);
    },
  };
}

function addHandlers(io: Server, socket: Socket): void {
  const { user } = socket.data as { user: string };
  socket.on("join", async (room: string, joined: (answer: object) => void) => {
    await socket.join(`chat-${room}`);
    joined({ ok: true });
  });
  socket.on("chat.send", ({ id, room, text }: Message, sent: (answer: object) => void) => {
    io.to(`chat-${room}`).emit("chat.message", { id, user, text });
    sent({ ok: true });
  });
}

if (import.meta.main) {
  const [redisUrl, jwtSecret] = [setting("REDIS_URL"), setting("AUTH_JWT_SECRET")];
  const { url } = await startOldChat({ redisUrl, jwtSecret, port: Number(setting("PORT")) });
  process.stdout.write(`old chat server at ${url}\n`);
}
