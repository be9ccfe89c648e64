/**
 * The one place that knows the inside of Socket.IO and of the engine under it: which engine carries the packets, and
 * what the public interface leaves out. Written for socket.io 4.8.
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import { Server as SocketIoServer, type Socket } from "socket.io";
import { maxOutboxBytes } from "../../shared/protocol/limits.ts";
import type { Arrival } from "../admission/upgrade-gate.ts";
import type { Frame } from "./frames.ts";
import type { FrameSink } from "./outbox.ts";
import type { Patience } from "./patience.ts";
import type { Transport } from "../sessions/session.ts";

export interface EngineOptions {
  transports: readonly ("websocket" | "polling")[];
  maxMessageBytes: number;
  /** A connection that has not authenticated by then is closed. */
  connectDeadlineMs: number;
  isOriginAllowed: (origin: string | undefined) => boolean;
  patience: Patience;
  /** Given every new connection, before it costs more than its request. */
  onArrival: (arrival: Arrival, request: IncomingMessage) => void;
  /** Given every connection that was opened. @returns what is called when it is closed, if need be. */
  onOpened: (request: IncomingMessage) => (() => void) | undefined;
}

export function createSocketIo(httpServer: HttpServer, options: EngineOptions): SocketIoServer {
  const io = new SocketIoServer({
    transports: [...options.transports],
    maxHttpBufferSize: options.maxMessageBytes,
    connectTimeout: options.connectDeadlineMs,
    pingInterval: options.patience.pingIntervalMs,
    pingTimeout: options.patience.pingTimeoutMs,
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    cors: {
      origin: (origin, answer) => answer(null, options.isOriginAllowed(origin)),
    },
    allowRequest: (request, answer) => answer(null, options.isOriginAllowed(request.headers.origin)),
  });
  io.attach(httpServer);
  guardDoor(httpServer, io.path(), options.onArrival);
  io.engine.on("connection", (connection: EngineConnection) => {
    const onClosed = connection.request && options.onOpened(connection.request);
    if (onClosed) connection.once("close", onClosed);
  });
  boundPongs(io);
  boundConnects(io);
  cutOffSilent(io, options.connectDeadlineMs);
  return io;
}

type OnRequest = (request: IncomingMessage, response: ServerResponse) => void;
type OnUpgrade = (request: IncomingMessage, socket: TcpSocket, head: Buffer) => void;

/** When the request of a connection came, by `performance.now()`. */
const arrivedAt = new WeakMap<IncomingMessage, number>();

/** Puts itself before the engine's listeners, where a connection begins. */
function guardDoor(httpServer: HttpServer, path: string, onArrival: EngineOptions["onArrival"]): void {
  const begins = ({ url = "" }: IncomingMessage): boolean => url.startsWith(path) && !sessionIn(url);
  for (const onRequest of httpServer.listeners("request") as OnRequest[]) {
    httpServer.off("request", onRequest);
    httpServer.on("request", (request, response) => {
      if (begins(request)) onArrival(pollingArrival(request, response, onRequest.bind(httpServer)), request);
      else onRequest.call(httpServer, request, response);
    });
  }
  for (const onUpgrade of httpServer.listeners("upgrade") as OnUpgrade[]) {
    httpServer.off("upgrade", onUpgrade);
    httpServer.on("upgrade", (request, socket: TcpSocket, head) => {
      if (begins(request))
        onArrival(
          upgradeArrival(request, socket, () => onUpgrade.call(httpServer, request, socket, head)),
          request,
        );
      else onUpgrade.call(httpServer, request, socket, head);
    });
  }
}

/** What the engine takes for the id of one of its connections, read as it does: the last of several, which may be empty. */
function sessionIn(url: string): string | undefined {
  return url.includes("sid=") ? new URL(url, "http://engine").searchParams.getAll("sid").at(-1) : undefined;
}

function upgradeArrival(request: IncomingMessage, socket: TcpSocket, open: () => void): Arrival {
  arrivedAt.set(request, performance.now());
  // Node has given the socket away, and nobody has taken it yet.
  const onError = (): void => void socket.destroy();
  socket.on("error", onError);
  return {
    get gone() {
      return socket.destroyed;
    },
    open: () => {
      open();
      socket.off("error", onError);
    },
    refuse: (seconds) => {
      const head = [
        "HTTP/1.1 503 Service Unavailable",
        "Connection: close",
        `Retry-After: ${seconds}`,
        "Content-Length: 0",
      ];
      socket.write(`${head.join("\r\n")}\r\n\r\n`);
      socket.destroySoon();
    },
  };
}

function pollingArrival(request: IncomingMessage, response: ServerResponse, onRequest: OnRequest): Arrival {
  arrivedAt.set(request, performance.now());
  return {
    get gone() {
      return response.destroyed;
    },
    open: () => onRequest(request, response),
    refuse: (seconds) => void response.writeHead(503, { "retry-after": String(seconds), connection: "close" }).end(),
  };
}

/** Socket.IO closes who has not authenticated in time, and leaves those who do not answer that to a long wait: they are cut off. */
function cutOffSilent(io: SocketIoServer, connectDeadlineMs: number): void {
  io.engine.on("connection", (connection: EngineConnection) => {
    const { socket } = connection.transport;
    if (!socket) return;
    // What is over by then is not kept for this: in a storm it would be thousands.
    const [kept, websocket] = [new WeakRef(connection), new WeakRef(socket)];
    const timer = setTimeout(() => {
      const { request, readyState } = kept.deref() ?? { readyState: "closed" };
      // Those that became a session have let their request go.
      if (readyState !== "open" && request !== null) reset(websocket.deref());
    }, connectDeadlineMs + closeHandshakeMs);
    timer.unref();
  });
}

/** Connections that are open, with a session or without. */
export function openConnections(io: SocketIoServer): number {
  return io.engine.clientsCount;
}

/** Pongs that wait for a client; what is more was asked for by one that does not read. */
const maxPongBytes = 64 * 1024;

/** `ws` answers a client's pings by itself, past the outbox. */
function boundPongs(io: SocketIoServer): void {
  io.engine.on("connection", (connection: EngineConnection) => {
    const follow = (): void => connection.transport.socket?.on("ping", cutOffUnread);
    follow();
    if (!connection.transport.socket) connection.once("upgrade", follow);
  });
}

/** One function for all connections. */
function cutOffUnread(this: Websocket): void {
  if (this.bufferedAmount > maxOutboxBytes + maxPongBytes) reset(this);
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

/** A client connects to one namespace, once. Each further CONNECT is answered past the outbox. */
const maxConnects = 5;
const connectPacket = "0";

/** Closes who asks again and again: the answers wait for a client that may not read. */
function boundConnects(io: SocketIoServer): void {
  const connects = new WeakMap<EngineConnection, number>();
  function count(this: EngineConnection, packet: unknown): void {
    if (typeof packet !== "string" || !packet.startsWith(connectPacket)) return;
    const soFar = (connects.get(this) ?? 0) + 1;
    connects.set(this, soFar);
    if (soFar <= maxConnects) return;
    const { socket } = this.transport;
    this.close();
    if (socket) cutOffUnanswered(socket);
  }
  io.engine.on("connection", (connection: EngineConnection) => connection.on("data", count));
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
  return new ConnectionSink(socket);
}

class ConnectionSink implements FrameSink {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  write(packet: string, options: Frame["options"], sent?: () => void): void {
    this.#socket.conn.write(packet, options, sent);
  }

  /** What the kernel has taken: of a large write, the part it had room for. Always 0 while the transport is polling. */
  get takenBytes(): number {
    const handle = websocketOf(this.#socket)?._socket?._handle;
    return handle ? handle.bytesWritten - handle.writeQueueSize : 0;
  }
}

/** When the client asked for its connection, by `performance.now()`; kept from {@link recordOpening}. */
const openedAt = new WeakMap<object, number>();

export function recordOpening(io: SocketIoServer): void {
  io.engine.on("connection", (connection: { request: IncomingMessage }) =>
    openedAt.set(connection, arrivedAt.get(connection.request) ?? performance.now()),
  );
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
/** The code where the peer has not answered it (RFC 6455, 7.1.5). */
const noCloseFrame = 1006;

interface Websocket {
  /** Bytes that have not left for the network. */
  readonly bufferedAmount: number;
  /** Null once it is closed; the handle is Node's own, of which `net` itself reads these two. */
  readonly _socket: {
    readonly _handle: { bytesWritten: number; writeQueueSize: number } | null;
    resetAndDestroy(): void;
  } | null;
  once(event: "close", listener: (code: number) => void): void;
  on(event: "ping", listener: (this: Websocket) => void): void;
}

interface EngineConnection {
  readonly request: IncomingMessage | null;
  readonly readyState: "opening" | "open" | "closing" | "closed";
  /** No socket while the transport is polling. */
  readonly transport: { readonly socket?: Websocket };
  once(event: "upgrade" | "close", listener: () => void): void;
  on(event: "data", listener: (this: EngineConnection, packet: unknown) => void): void;
  close(): void;
}

/** Undefined while the transport is polling. */
function websocketOf(socket: Socket): Websocket | undefined {
  return (socket.conn as unknown as EngineConnection).transport.socket;
}

/** Why the engine closed a connection whose client did not answer a ping in time. */
export const pingTimeoutReason = "ping timeout";

/** At once: the engine itself would leave the socket to a closing handshake. */
export function cutOff(socket: Socket): void {
  reset(websocketOf(socket));
}

/**
 * With a TCP reset. A closed connection whose peer does not read would keep what the kernel holds for it, until the kernel
 * gives up without a word: the peer that reads again would wait for messages that never come.
 */
function reset(websocket: Websocket | undefined): void {
  websocket?._socket?.resetAndDestroy();
}

/** Where its peer does not answer the closing handshake in time. */
function cutOffUnanswered(websocket: Websocket, whenClosed?: (answered: boolean) => void): void {
  const timer = setTimeout(() => reset(websocket), closeHandshakeMs);
  websocket.once("close", (code) => {
    clearTimeout(timer);
    whenClosed?.(code !== noCloseFrame);
  });
}

export function transportOf(socket: Socket): Transport {
  return {
    close: (announce, whenClosed) => {
      const websocket = websocketOf(socket);
      if (websocket) cutOffUnanswered(websocket, whenClosed);
      if (announce) socket.disconnect(true);
      else socket.conn.close();
      if (!websocket) whenClosed?.(true);
    },
    terminate: () => {
      const websocket = websocketOf(socket);
      socket.conn.close(true);
      reset(websocket);
    },
  };
}
