/**
 * The one place that knows the inside of Socket.IO and of the engine under it: which engine carries the packets, and
 * what the public interface leaves out. Written for socket.io 4.8.
 */
import type { IncomingMessage, Server as HttpServer } from "node:http";
import { Server as SocketIoServer, type Socket } from "socket.io";
import { PacketType } from "socket.io-parser";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { maxOutboxBytes } from "../../shared/protocol/limits.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import type { Arrival } from "../entrance/upgrade-gate.ts";
import type { ClientEvent } from "../requests/client-event.ts";
import type { Transport } from "../sessions/session.ts";
import { closeHandshakeMs, ConnectionInput } from "./connection-input.ts";
import { arrivalOf, connectionIn, guardDoor } from "./door.ts";
import type { EngineConnection, Websocket } from "./engine-internals.ts";
import type { Frame } from "../outbox/frames.ts";
import type { Flood } from "./input-budget.ts";
import type { FrameSink } from "../outbox/outbox.ts";
import { type Packet, packetParser } from "./packet-decoder.ts";
import type { Patience } from "./patience.ts";

export interface EngineOptions {
  transports: readonly ("websocket" | "polling")[];
  maxMessageBytes: number;
  /** That one session may send in a second; twice as many at once. */
  bytesPerSecond: number;
  /** A connection that has not authenticated by then is closed. */
  connectDeadlineMs: number;
  origins: OriginPolicy;
  patience: Patience;
  /** Given every new connection, before it costs more than its request. */
  onArrival: (arrival: Arrival, request: IncomingMessage) => void;
  /** Given every connection that was opened. @returns what is called when it is closed. */
  onOpened: (request: IncomingMessage, connection: EngineConnection) => () => void;
  /** Given the cause of each connection that is cut because it sent too much. */
  onFlood: (flood: Flood) => void;
  errors: ContainedErrors;
}

export function createSocketIo(httpServer: HttpServer, options: EngineOptions): SocketIoServer {
  const { origins, errors } = options;
  const io = new SocketIoServer({
    transports: [...options.transports],
    maxHttpBufferSize: options.maxMessageBytes,
    connectTimeout: options.connectDeadlineMs,
    pingInterval: options.patience.pingIntervalMs,
    pingTimeout: options.patience.pingTimeoutMs,
    parser: packetParser,
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    // Browsers ask for these headers where a page polls; an upgrade needs none.
    ...(options.transports.includes("polling") && {
      cors: ({ headers }: CorsRequest, answer: (error: null, cors: { origin: boolean }) => void) =>
        answer(null, { origin: origins.allows(headers.origin, headers.host) }),
    }),
  });
  io.attach(httpServer);
  const newInput = (): ConnectionInput => new ConnectionInput(options);
  guardDoor(httpServer, {
    path: `${io.path()}/`,
    origins,
    onArrival: options.onArrival,
    onUpgraded: (request, socket, id) => {
      const connection = id === undefined ? undefined : engineOf(io).clients[id];
      const input = connection ? inputs.get(connection) : newInput();
      if (!connection && input) upgraded.set(request, input);
      input?.watchFrames(socket);
    },
    errors,
  });
  io.engine.on(
    "connection",
    errors.guarded("frame", (connection: EngineConnection) => {
      const { request } = connection;
      const input = (request && upgraded.get(request)) ?? newInput();
      inputs.set(connection, input);
      input.watchPackets(connection);
      if (!request) return;
      openedAt.set(connection, arrivalOf(request));
      connection.once("close", errors.guarded("frame", options.onOpened(request, connection)));
    }),
  );
  boundPongs(io);
  return io;
}

type CorsRequest = Pick<IncomingMessage, "headers">;

/** Connections whose socket is upgraded, and which the engine has not opened yet. */
const upgraded = new WeakMap<IncomingMessage, ConnectionInput>();
const inputs = new WeakMap<object, ConnectionInput>();

function engineOf(io: SocketIoServer): { clients: Record<string, EngineConnection | undefined> } {
  return io.engine as never;
}

/** A session has begun on this connection: it may send what sessions may, and nothing of its handshake is kept. */
export function beginInput(socket: Socket): void {
  inputs.get(socket.conn)?.beginSession();
  // The engine keeps the request for as long as the connection lives.
  (socket.conn as { request: unknown }).request = null;
}

/** Whether a request is one of a polling connection that is open. */
export function isPoll(io: SocketIoServer, request: IncomingMessage): boolean {
  const id = request.url?.startsWith(io.path()) ? connectionIn(request) : undefined;
  return id !== undefined && Object.hasOwn(engineOf(io).clients, id);
}

/** Takes what the client sent to begin with, and keeps nothing of it. */
export function takeHandshake(socket: Socket): { auth: unknown; userAgent: string } {
  const { auth, headers } = socket.handshake;
  (socket as { handshake: unknown }).handshake = noHandshake;
  return { auth, userAgent: headers["user-agent"]?.slice(0, maxUserAgentLength) ?? "" };
}

const noHandshake = Object.freeze({});
/** As long as those of browsers, and some more; it travels to the connect hook. */
const maxUserAgentLength = 512;

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

interface SocketInternals {
  /** Given each packet of the namespace, but for CONNECT. */
  _onpacket(packet: Packet): void;
  ondisconnect(): void;
}

/**
 * Gives every event of a client to `onEvent`. Socket.IO's own listeners, which take the arguments of an event as arguments of
 * a call however many they are, and its way to answer are not used: the outbox alone writes.
 */
export function receiveEvents(
  socket: Socket,
  onEvent: (event: ClientEvent) => Promise<void>,
  errors: ContainedErrors,
): void {
  const internals = socket as unknown as SocketInternals;
  internals._onpacket = errors.guarded(
    "frame",
    ({ type, id, event }: Packet) => {
      if (type === PacketType.DISCONNECT) internals.ondisconnect();
      return event && onEvent({ ...event, ackId: id });
    },
    () => transportOf(socket).terminate(),
  );
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

/** When the client asked for its connection, by `performance.now()`. */
const openedAt = new WeakMap<object, number>();

export function openedAtOf(socket: Socket): number {
  return openedAt.get(socket.conn) ?? performance.now();
}

/** The code where the peer has not answered it (RFC 6455, 7.1.5). */
const noCloseFrame = 1006;

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

/** A connection without a session, of which nothing is kept. */
export function cutOffConnection(connection: EngineConnection): void {
  const { socket } = connection.transport;
  connection.close(true);
  reset(socket);
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
