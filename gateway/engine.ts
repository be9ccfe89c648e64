/**
 * The one place that knows the inside of Socket.IO and of the engine under it: which engine carries the packets, and
 * what the public interface leaves out. Written for socket.io 4.8.
 */
import type { Server as HttpServer } from "node:http";
import { Server as SocketIoServer, type Socket } from "socket.io";
import type { FrameSink } from "./outbox.ts";
import type { Transport } from "./session.ts";

export interface EngineOptions {
  transports: readonly ("websocket" | "polling")[];
  maxMessageBytes: number;
  /** A connection that has not authenticated by then is closed. */
  connectDeadlineMs: number;
  isOriginAllowed: (origin: string | undefined) => boolean;
}

const pingIntervalMs = 25_000;
const pingTimeoutMs = 20_000;

export function createSocketIo(httpServer: HttpServer, options: EngineOptions): SocketIoServer {
  const io = new SocketIoServer({
    transports: [...options.transports],
    maxHttpBufferSize: options.maxMessageBytes,
    connectTimeout: options.connectDeadlineMs,
    pingInterval: pingIntervalMs,
    pingTimeout: pingTimeoutMs,
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    cors: {
      origin: (origin, answer) => answer(null, options.isOriginAllowed(origin)),
    },
    allowRequest: (request, answer) => answer(null, options.isOriginAllowed(request.headers.origin)),
  });
  return io.attach(httpServer);
}

/** Stands for the ack a client asked for, in the arguments of its event. */
export class AckId {
  readonly id: number;
  constructor(id: number) {
    this.id = id;
  }
}

interface SocketInternals {
  ack(id: number): AckId;
}

/**
 * Gives every event of a client to `onEvent`, as a list of event, arguments, and an {@link AckId} where it wants an ack.
 * Socket.IO's own listeners and its way to answer are not used: the outbox alone writes.
 */
export function receiveEvents(socket: Socket, onEvent: (event: string, args: unknown[]) => void): void {
  (socket as unknown as SocketInternals).ack = (id) => new AckId(id);
  socket.onAny((event: string | number, ...args: unknown[]) => onEvent(String(event), args));
  // A middleware that does not go on: events such as "error" would throw where nobody listens for them.
  socket.use(() => undefined);
}

/** Called with every binary part a client sends. */
export function onBinary(socket: Socket, callback: () => void): void {
  socket.conn.on("data", (data: unknown) => {
    if (typeof data !== "string") callback();
  });
}

export function frameSink(socket: Socket): FrameSink {
  return socket.conn;
}

/** When the client's connection was opened, by `performance.now()`; kept from {@link recordOpening}. */
const openedAt = new WeakMap<object, number>();

export function recordOpening(io: SocketIoServer): void {
  io.engine.on("connection", (connection: object) => openedAt.set(connection, performance.now()));
}

export function openedAtOf(socket: Socket): number {
  return openedAt.get(socket.conn) ?? performance.now();
}

/** The upgrade request is kept alive by the engine for as long as the connection lives, unless it is let go. */
export function releaseRequest(socket: Socket): void {
  (socket.conn as { request: unknown }).request = null;
}

/** A peer that does not answer the websocket's closing handshake within this is cut off. */
const closeHandshakeMs = 2_000;

interface Websocket {
  terminate(): void;
  once(event: "close", listener: () => void): void;
}

/** Undefined while the transport is polling. */
function websocketOf(socket: Socket): Websocket | undefined {
  return (socket.conn as unknown as { transport: { socket?: Websocket } }).transport.socket;
}

export function transportOf(socket: Socket): Transport {
  return {
    close: (announce) => {
      const websocket = websocketOf(socket);
      if (websocket) {
        const timer = setTimeout(() => websocket.terminate(), closeHandshakeMs);
        websocket.once("close", () => clearTimeout(timer));
      }
      if (announce) socket.disconnect(true);
      else socket.conn.close();
    },
    terminate: () => {
      const websocket = websocketOf(socket);
      socket.conn.close(true);
      websocket?.terminate();
    },
  };
}
