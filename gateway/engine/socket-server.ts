/** The websocket door of a node: binds Socket.IO to the entrance, and the events of each session to their dispatch. */
import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Server as SocketIoServer, Socket } from "socket.io";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import { connectDeadlineMs, maxPayloadBytes } from "../../shared/protocol/limits.ts";
import type { GatewayContext } from "../node/context.ts";
import { welcome } from "../entrance/begin-session.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import { Entrance, type EntranceLimits } from "../entrance/entrance.ts";
import { dispatch } from "../requests/dispatch.ts";
import type { Session } from "../sessions/session.ts";
import { type ClientConnection, connectionOf, takeHandshake } from "./client-connection.ts";
import { createSocketIo, isPoll, type SocketIoOptions } from "./socket-io.ts";

/** The bound is on the bytes of data; as JSON text each may be spelled `\u00xx`. A larger message closes the transport. */
const maxMessageBytes = maxPayloadBytes * 6 + 4_096;
/** Time for a refused client to leave by itself. */
const leaveMs = 1_000;
/** Connections that wait at a time for their reset or refusal; further ones do not wait. */
const maxDelayed = 1_000;
/** Time for the last notices to reach the clients of a node that stops. */
const stopMs = 3_000;

export interface SocketServerOptions extends Pick<SocketIoOptions, "transports" | "origins" | "liveness"> {
  httpServer: HttpServer;
  context: GatewayContext;
  limits: EntranceLimits;
  trustedProxies: ProxyTrust;
}

export class SocketServer implements Service {
  readonly #options: SocketServerOptions;
  readonly entrance: Entrance;
  readonly #refusalDelay = new RefusalDelay(maxDelayed);
  #io: SocketIoServer | undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.entrance = new Entrance(options.context, options.limits);
  }

  /** Started, and neither draining nor stopping. */
  get accepting(): boolean {
    return this.#io !== undefined && !this.entrance.isClosed;
  }

  /** Whether a request carries packets of an open connection. */
  isPoll(request: IncomingMessage): boolean {
    return this.#io !== undefined && isPoll(this.#io, request);
  }

  async start(): Promise<void> {
    const { httpServer, trustedProxies, context } = this.#options;
    const { messagesPerSecond, metrics, errors } = context;
    this.entrance.start();
    const io = createSocketIo(httpServer, {
      ...this.#options,
      maxMessageBytes,
      bytesPerSecond: messagesPerSecond * maxPayloadBytes,
      connectDeadlineMs,
      addressOf: (request) => clientAddress(request, trustedProxies),
      onArrival: (arrival) => this.entrance.arrive(arrival),
      onOpened: (connection) => this.entrance.opened(connection),
      onFlood: (cause) => metrics.floods.inc({ cause }),
      cutDelay: this.#refusalDelay,
      errors,
    });
    io.use((socket, next) => {
      const connection = connectionOf(socket.conn);
      if (connection) errors.contain("frame", () => this.#enter(socket, connection, next));
    });
    io.on("connection", (socket) => {
      const connection = connectionOf(socket.conn);
      if (!connection) return;
      errors.contain(
        "frame",
        () => this.#begin(socket, connection),
        () => connection.terminate(),
      );
    });
    this.#io = io;
  }

  /** Refuses every client from now on. */
  refuse(): void {
    this.entrance.close();
  }

  /** Takes {@link refuse} back. */
  accept(): void {
    this.entrance.open();
  }

  /** Asks every client to reconnect elsewhere, then closes. */
  async stop(): Promise<void> {
    this.refuse();
    await withDeadline(this.entrance.evictAll(), stopMs, () => undefined);
    this.entrance.gate.stop();
    // Not io.close(): stock clients do not reconnect after its DISCONNECT packets.
    this.#io?.engine.close();
  }

  /** The client has sent CONNECT. */
  async #enter(socket: Socket, connection: ClientConnection, next: (refusal?: Error) => void): Promise<void> {
    const { auth, userAgent } = takeHandshake(socket);
    const entered = await this.entrance.enter(connection, auth, userAgent);
    if (entered.kind === "begun") {
      socket.data = entered.session;
      return next();
    }
    const { refusal } = entered;
    const refuse = (): void => {
      next(Object.assign(new Error(refusal.message), { data: refusal }));
      closeLater(connection);
    };
    // A peer that has proven nothing would try again as soon as it is refused.
    if (refusal.code === "unauthenticated") this.#refusalDelay.before(refuse);
    else refuse();
  }

  /** Socket.IO has answered CONNECT. */
  #begin(socket: Socket, connection: ClientConnection): void {
    const session = socket.data as Session;
    const { context } = this.#options;
    connection.begin(socket, context.errors, {
      onEvent: (event) => dispatch(session, event, context),
      onLeave: () => session.leave(),
      onBadPacket: (error) => context.logger.debug({ err: error }, "bad packet"),
    });
    welcome(session, this.entrance.reconnectPolicy.current, context);
  }
}

/** Where a refused client does not leave by itself, as a stock client does. */
function closeLater(connection: ClientConnection): void {
  const timer = setTimeout(() => {
    if (connection.isOpen) connection.close(false);
  }, leaveMs);
  timer.unref();
  connection.onClosed(() => clearTimeout(timer));
}
