/** The Socket.IO server on the public port: its options, and a {@link ClientConnection} for each connection that opens. */
import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import { Server as SocketIoServer, type ServerOptions } from "socket.io";
import { ClientConnection, connectionOf } from "./client-connection.ts";
import { ConnectionInput, type ConnectionInputOptions } from "./connection-input.ts";
import { connectionIdIn, type DoorOptions, guardDoor, requestedAt } from "./door.ts";
import type { EngineSocket } from "./engine-internals.ts";
import type { Liveness } from "./liveness.ts";
import { packetParser } from "./packet-decoder.ts";

export interface SocketIoOptions extends Omit<DoorOptions, "path" | "onUpgraded">, ConnectionInputOptions {
  transports: readonly string[];
  /** A connection that has not authenticated by then is closed. */
  connectDeadlineMs: number;
  liveness: Liveness;
  onOpened: (connection: ClientConnection) => void;
}

export function createSocketIo(httpServer: HttpServer, options: SocketIoOptions): SocketIoServer {
  const io = new SocketIoServer(serverOptions(options));
  io.attach(httpServer);
  /** Of connections whose socket is upgraded, and which the engine has not opened yet. */
  const inputs = new WeakMap<IncomingMessage, ConnectionInput>();
  guardDoor(httpServer, {
    ...options,
    path: `${io.path()}/`,
    onUpgraded: (request, tcp, id) => {
      const engineSocket = id === undefined ? undefined : engineSockets(io)[id];
      if (engineSocket) return connectionOf(engineSocket)?.upgrade(tcp);
      const input = new ConnectionInput(options);
      inputs.set(request, input);
      input.watchFrames(tcp);
    },
  });
  io.engine.on(
    "connection",
    options.errors.guarded("frame", (engineSocket: EngineSocket) => {
      const { request } = engineSocket;
      if (!request) throw new Error("a connection without a request");
      const connection = new ClientConnection({
        engineSocket,
        input: inputs.get(request) ?? new ConnectionInput(options),
        address: options.addressOf(request),
        requestedAt: requestedAt(request),
      });
      connection.watch();
      options.onOpened(connection);
    }),
  );
  writeTogether(io);
  return io;
}

/** Packets that the engine sends together leave in one write: without this each of them is a system call. */
function writeTogether(io: SocketIoServer): void {
  let corked: TcpSocket | undefined;
  io.engine.on("flush", ({ transport }: EngineSocket, packets: readonly unknown[]) => {
    if (packets.length === 1) return;
    corked = transport.socket?._socket ?? undefined;
    corked?.cork();
  });
  // Follows each flush, in the same call.
  io.engine.on("drain", () => {
    corked?.uncork();
    corked = undefined;
  });
}

function serverOptions({
  transports,
  maxMessageBytes,
  connectDeadlineMs,
  liveness,
  origins,
}: SocketIoOptions): Partial<ServerOptions> {
  return {
    transports: [...transports] as ("websocket" | "polling")[],
    maxHttpBufferSize: maxMessageBytes,
    connectTimeout: connectDeadlineMs,
    pingInterval: liveness.pingIntervalMs,
    pingTimeout: liveness.pingTimeoutMs,
    parser: packetParser,
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    // Browsers need CORS headers where a page polls; an upgrade needs none.
    ...(transports.includes("polling") && {
      cors: ({ headers }: CorsRequest, answer: (error: null, cors: { origin: boolean }) => void) =>
        answer(null, { origin: origins.allows(headers.origin, headers.host) }),
    }),
  };
}

type CorsRequest = Pick<IncomingMessage, "headers">;

/** Whether a request belongs to a polling connection that is open. */
export function isPoll(io: SocketIoServer, request: IncomingMessage): boolean {
  const id = request.url?.startsWith(io.path()) ? connectionIdIn(request) : undefined;
  return id !== undefined && Object.hasOwn(engineSockets(io), id);
}

function engineSockets(io: SocketIoServer): Record<string, EngineSocket | undefined> {
  return (io.engine as unknown as { clients: Record<string, EngineSocket | undefined> }).clients;
}
