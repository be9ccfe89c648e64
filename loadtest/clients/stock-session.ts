import { io, type Socket } from "socket.io-client";
import type { Welcome } from "../../shared/protocol/wire.ts";

export interface StockSession {
  readonly socket: Socket;
  readonly welcome: Welcome;
}

/** Connects a stock Socket.IO client that does not reconnect. Resolves once it is welcome; throws where it is refused. */
export async function openStockSession(url: string, auth: object): Promise<StockSession> {
  const options = { transports: ["websocket"], auth, forceNew: true, reconnection: false };
  const socket = io(url.replace("ws", "http"), options);
  const welcome = await new Promise<Welcome>((resolve, reject) => {
    socket.once("sync:welcome", resolve);
    socket.once("connect_error", reject);
  });
  return { socket, welcome };
}
