/** The websocket door: from a handshake to a session, from a session to its requests. */
import type { Server as HttpServer } from "node:http";
import type { Server as SocketIoServer, Socket } from "socket.io";
import type { Service } from "../../shared/lifecycle.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import {
  conflateFromBytes,
  connectDeadlineMs,
  maxOutboxBytes,
  maxPayloadBytes,
  protocolVersion,
} from "../../shared/protocol/limits.ts";
import type { Welcome } from "../../shared/protocol/wire.ts";
import { refuse, undecidedRetryMs } from "../sessions/authentication.ts";
import type { GatewayContext } from "../context.ts";
import {
  createSocketIo,
  cutOff,
  frameSink,
  onBinary,
  openedAtOf,
  pingTimeoutReason,
  receiveEvents,
  recordOpening,
  releaseRequest,
  transportOf,
} from "./engine.ts";
import { eventFrame } from "./frames.ts";
import { beginSession } from "../sessions/begin-session.ts";
import { type Accepted, checkHandshake, type Handshake, withoutResume } from "../sessions/handshake.ts";
import { Outbox } from "./outbox.ts";
import type { Patience } from "./patience.ts";
import { dispatch } from "../requests/dispatch.ts";
import { endSubscription } from "../requests/unsubscribe.ts";
import { Session } from "../sessions/session.ts";

/** The limit is on the data's bytes; as JSON text each may be spelled `\u00xx`. What is larger closes the transport. */
const maxMessageBytes = maxPayloadBytes * 6 + 4_096;
/** The refusal has to be on its way before the engine closes what has not been accepted. */
const refusalMarginMs = 250;
/** Clients spread their return over this; one node and no admission rate say no more yet. */
const reconnectPolicy = { minDelayMs: 0, windowMs: 5_000 };
const capacityRetryMs = 5_000;
const drainRetryMs = 1_000;
/** For what is told to clients at the end to reach them. */
const stopPatienceMs = 3_000;

export interface SocketServerOptions {
  httpServer: HttpServer;
  context: GatewayContext;
  maxConnections: number;
  transports: readonly string[];
  allowedOrigins: readonly string[];
  patience: Patience;
}

export class SocketServer implements Service {
  readonly #options: SocketServerOptions;
  readonly #context: GatewayContext;
  #io: SocketIoServer | undefined;
  /** Sessions and handshakes under way. */
  #seats = 0;
  #tries = 0;
  /** Connections that have tried to authenticate: each has one try, and one session. */
  readonly #claimed = new WeakSet<object>();
  #draining = false;
  #whenEmpty = (): void => undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#context = options.context;
  }

  /** The door is open, and nobody has told it to close. */
  get accepting(): boolean {
    return this.#io !== undefined && !this.#draining;
  }

  get seats(): number {
    return this.#seats;
  }

  /** Handshakes so far, whatever became of them. */
  get tries(): number {
    return this.#tries;
  }

  async start(): Promise<void> {
    const { allowedOrigins, patience } = this.#options;
    const io = createSocketIo(this.#options.httpServer, {
      transports: this.#options.transports as ("websocket" | "polling")[],
      maxMessageBytes,
      connectDeadlineMs,
      patience,
      isOriginAllowed: (origin) =>
        origin === undefined || allowedOrigins.includes("*") || allowedOrigins.includes(origin),
    });
    recordOpening(io);
    io.use((socket, next) => {
      void this.#admit(socket)
        .catch((error: unknown) => {
          this.#context.logger.error({ err: error }, "a connection could not be checked");
          return refuse("auth_unavailable", "the connection could not be checked", undecidedRetryMs);
        })
        .then((refusal) => {
          this.#context.metrics.connects.inc({ outcome: refusal?.code ?? "accepted" });
          next(refusal && Object.assign(new Error(refusal.message), { data: refusal }));
        });
    });
    io.on("connection", (socket) => this.#welcome(socket));
    this.#io = io;
  }

  /** Nobody is let in any more. */
  refuse(): void {
    this.#draining = true;
  }

  /** Tells every client that is still there to come back elsewhere, then closes. */
  async stop(): Promise<void> {
    this.refuse();
    for (const session of this.#context.sessions.all) {
      session.end("draining", "this node is stopping", { reconnect: true, retryAfterMs: drainRetryMs });
    }
    const { promise: empty, resolve } = Promise.withResolvers<void>();
    this.#whenEmpty = resolve;
    if (this.#seats === 0) resolve();
    const timer = setTimeout(resolve, stopPatienceMs);
    await empty;
    clearTimeout(timer);
    // Not io.close(): its DISCONNECT packets would keep stock clients from returning.
    this.#io?.engine.close();
  }

  /** @returns why not. On success the session is in `socket.data`, and messages to its user reach it. */
  async #admit(socket: Socket): Promise<ConnectRefusal | undefined> {
    this.#tries++;
    if (this.#claimed.has(socket.conn)) return refuse("unauthenticated", "a connection authenticates once");
    this.#claimed.add(socket.conn);
    if (this.#draining) return stopping();
    if (this.#seats >= this.#options.maxConnections) {
      return refuse("at_capacity", "this node has no free place", capacityRetryMs);
    }
    // Socket.IO comes here a turn later: a connection that has closed since tells nobody any more.
    if (socket.conn.readyState !== "open") return tooLate();
    this.#seats++;
    let seated = true;
    const giveUpSeat = (closedBy?: string): void => {
      this.#leave(socket, closedBy);
      if (!seated) return;
      seated = false;
      this.#seats--;
      if (this.#seats === 0) this.#whenEmpty();
    };
    socket.conn.once("close", giveUpSeat);
    const deadline = openedAtOf(socket) + connectDeadlineMs - refusalMarginMs;
    const { promise: late, resolve } = Promise.withResolvers<ConnectRefusal>();
    const timer = setTimeout(() => resolve(tooLate()), deadline - performance.now());
    const { auth, address, headers } = socket.handshake;
    const handshake = { auth, address, userAgent: headers["user-agent"] ?? "" };
    const refusal = await Promise.race([this.#checkIn(socket, handshake, deadline), late]);
    clearTimeout(timer);
    if (refusal) giveUpSeat();
    return refusal;
  }

  async #checkIn(socket: Socket, handshake: Handshake, deadline: number): Promise<ConnectRefusal | undefined> {
    const checked = await checkHandshake(handshake, deadline, this.#context);
    if (checked.kind === "refused") return checked.refusal;
    if (performance.now() > deadline) return tooLate();
    const session = this.#createSession(socket, checked);
    socket.data = session;
    const begun = await beginSession(session, checked.resumed, this.#context);
    switch (begun.kind) {
      case "revoked":
        this.#leave(socket);
        return this.#checkIn(socket, withoutResume(handshake), deadline);
      case "refused":
        return begun.refusal;
      case "begun":
    }
    if (this.#draining) return stopping();
    // Gone, or refused for being late, in the meantime.
    return socket.conn.readyState === "open" && performance.now() <= deadline ? undefined : tooLate();
  }

  #createSession(socket: Socket, { sessionId, credentials, grantedChannels, info, moves }: Accepted): Session {
    const outbox = new Outbox({
      sink: frameSink(socket),
      maxBytes: maxOutboxBytes,
      conflateFromBytes,
      onOverflow: () => {
        this.#context.metrics.slowConsumers.inc({ cause: "bytes" });
        session.terminate("slow_consumer");
      },
      onConflated: this.#onConflated,
    });
    const transport = transportOf(socket);
    const session = new Session({ sessionId, credentials, grantedChannels, info, moves, outbox, transport });
    return session;
  }

  #welcome(socket: Socket): void {
    const session = socket.data as Session;
    const context = this.#context;
    releaseRequest(socket);
    const welcome: Welcome = {
      protocol: protocolVersion,
      node: context.node,
      sessionId: session.id,
      user: session.user,
      resumed: session.resumed,
      resumeToken: context.resumeTokens.seal(session.resumable),
      expiresAt: session.expiresAt,
      maxPayloadBytes,
      reconnect: reconnectPolicy,
    };
    session.welcome(eventFrame("sync:welcome", welcome));
    onBinary(socket, () => {
      session.binarySeen = true;
    });
    receiveEvents(socket, (event, args) => void dispatch(session, event, args, context));
    // A packet that is no packet: the engine closes the connection by itself.
    socket.on("error", (error: Error) => context.logger.debug({ err: error }, "bad packet"));
    // A client may leave the namespace and keep the transport: there is nothing else for it here.
    socket.on("disconnect", (reason) => {
      if (reason === "client namespace disconnect") session.leave();
      socket.conn.close();
    });
  }

  readonly #onConflated = (frames: number): void => this.#context.metrics.conflated.inc(frames);

  /** Once for each session, however it ended. */
  #leave(socket: Socket, closedBy?: string): void {
    const frozen = closedBy === pingTimeoutReason;
    if (frozen) cutOff(socket);
    const session: unknown = socket.data;
    if (!(session instanceof Session) || session.disposed) return;
    const { presence, holdings, sessions } = this.#context;
    const { moved } = session;
    presence.leaveAll(session);
    for (const channel of [...session.subscriptions.keys()]) endSubscription(session, channel, this.#context);
    sessions.remove(session);
    session.dispose();
    if (session.held.claim > 0) holdings.end({ ...session.held, user: session.user });
    const reason = session.endedBy ?? (moved ? "moved" : frozen ? "ping_timeout" : "client");
    if (session.welcomed) this.#context.metrics.disconnects.inc({ reason });
  }
}

function stopping(): ConnectRefusal {
  return refuse("draining", "this node is stopping", drainRetryMs);
}

function tooLate(): ConnectRefusal {
  return refuse("auth_unavailable", "the connection could not be checked in time", undecidedRetryMs);
}
