/** The client of examples/socketio-chat where a move fails, against one server that plays both sides. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server } from "socket.io";
import { expect, onTestFinished, test } from "vitest";
import { ChatClient } from "../../examples/socketio-chat/client.ts";
import { eventually } from "../support/eventually.ts";

type Answer = (answer: object) => void;

test("BRI-13: a client that cannot complete its move, or moves twice at once, keeps one connection", async () => {
  let transport = "tidegate";
  let joins = true;
  let url = "";
  const http = createServer((_request, response) => response.end(JSON.stringify({ url, config: { transport } })));
  const io = new Server(http);
  onTestFinished(() => io.close());
  io.on("connection", (socket) => {
    socket.on("sync:subscribe", (_channel: object, answer: Answer) => answer({ ok: true }));
    socket.on("sync:history", (_range: object, answer: Answer) => answer({ ok: true, publications: [] }));
    socket.on("join", (_room: string, answer: Answer) => answer({ ok: joins }));
    socket.on("chat.send", (_message: object, answer: Answer) => answer({ ok: false }));
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const client = new ChatClient({ bootstrapUrl: url, token: "t", room: "tea", onMessage: () => undefined });
  onTestFinished(() => client.leave());
  const hasOne = async (): Promise<void> => eventually(() => io.of("/").sockets.size === 1);

  await Promise.all([client.follow(), client.follow()]);
  expect(io.of("/").sockets.size).toBe(1);
  transport = "old";
  joins = false;
  await expect(client.follow()).rejects.toThrow("join was answered");
  await hasOne();
  expect(client.side).toBe("tidegate");
  joins = true;
  await expect(client.follow()).rejects.toThrow("chat.send was answered");
  await hasOne();
  expect(client.side).toBe("old");
});
