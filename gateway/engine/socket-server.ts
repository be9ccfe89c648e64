/** The websocket door: from a handshake to a session, from a session to its requests. */
import type { IncomingMessage, Server as HttpServer } from "node:http";
import type { Server as SocketIoServer, Socket } from "socket.io";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import {
  conflateFromBytes,
  connectDeadlineMs,
  maxOutboxBytes,
  maxPayloadBytes,
  protocolVersion,
} from "../../shared/protocol/limits.ts";
import type { ReconnectPolicy, Welcome } from "../../shared/protocol/wire.ts";
import { refuse, undecidedRetryMs } from "../sessions/authentication.ts";
import type { GatewayContext } from "../node/context.ts";
import type { AddressBounds } from "../entrance/address-limits.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import type { Admission } from "../entrance/admission.ts";
import { ReturnPolicy } from "../entrance/return-policy.ts";
import { UpgradeGate } from "../entrance/upgrade-gate.ts";
import type { ProxyTrust } from "../entrance/client-address.ts";
import { drainRetryMs, type Entering, Entrance, tooLate } from "./entrance.ts";
import {
  beginInput,
  createSocketIo,
  cutOff,
  frameSink,
  isPoll,
  pingTimeoutReason,
  receiveEvents,
  transportOf,
} from "./engine.ts";
import { eventFrame } from "../outbox/frames.ts";
import { beginSession } from "../entrance/begin-session.ts";
import { type Accepted, checkHandshake, refuseOneTooMany } from "../entrance/handshake.ts";
import { Outbox } from "../outbox/outbox.ts";
import type { Patience } from "./patience.ts";
import { dispatch } from "../requests/dispatch.ts";
import { endSubscription } from "../subscriptions/end.ts";
import { Session } from "../sessions/session.ts";

/** The limit is on the data's bytes; as JSON text each may be spelled `\u00xx`. What is larger closes the transport. */
const maxMessageBytes = maxPayloadBytes * 6 + 4_096;
/** For a client that was refused to hear of it, and leave by itself. */
const leaveMs = 1_000;
/** For what is told to clients at the end to reach them. */
const stopPatienceMs = 3_000;

export interface SocketServerOptions {
  httpServer: HttpServer;
  context: GatewayContext;
  limits: {
    /** Of this node: sessions, and handshakes that wait or are checked. */
    maxConnections: number;
    /** Open connections without a seat. */
    maxUnseated: number;
    /** In the fleet; 0: any number. */
    sessionsPerUser: number;
    address: AddressBounds;
  };
  trustedProxies: ProxyTrust;
  transports: readonly string[];
  origins: OriginPolicy;
  patience: Patience;
}

export class SocketServer implements Service {
  readonly #options: SocketServerOptions;
  readonly #context: GatewayContext;
  readonly #entrance: Entrance;
  readonly #gate: UpgradeGate;
  readonly #returnPolicy: ReturnPolicy;
  #io: SocketIoServer | undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#context = options.context;
    const { context, limits, trustedProxies } = options;
    const { maxConnections, maxUnseated, address } = limits;
    this.#entrance = new Entrance({ context, maxConnections, maxUnseated, address, trustedProxies });
    const { fleet, metrics, sessions } = context;
    const { admission } = this.#entrance;
    this.#gate = new UpgradeGate({
      hasRoom: () => this.#entrance.makeRoom(),
      onRefused: () => metrics.upgradesRefused.inc(),
    });
    this.#returnPolicy = new ReturnPolicy({
      sessions: () => sessions.all,
      admissionsPerSecond: () => fleet.budgetPerSecond,
      errors: context.errors,
    });
    this.#gate.setRate(admission.returnsPerSecond);
    fleet.onReport(() => {
      admission.onShare();
      this.#gate.setRate(admission.returnsPerSecond);
      this.#returnPolicy.update();
    });
  }

  /** The door is open, and nobody has told it to close. */
  get accepting(): boolean {
    return this.#io !== undefined && !this.#entrance.isClosed;
  }

  get seats(): number {
    return this.#entrance.seats;
  }

  get admission(): Admission {
    return this.#entrance.admission;
  }

  /** How clients that lose this node spread their return. */
  get reconnectPolicy(): ReconnectPolicy {
    return this.#returnPolicy.current;
  }

  /** Connections that wait to be opened. */
  get waitingUpgrades(): number {
    return this.#gate.waiting;
  }

  /** Whether a request carries packets of a connection that is open. */
  isPoll(request: IncomingMessage): boolean {
    return this.#io !== undefined && isPoll(this.#io, request);
  }

  async start(): Promise<void> {
    const { origins, patience } = this.#options;
    const { messagesPerSecond, metrics, errors } = this.#context;
    const io = createSocketIo(this.#options.httpServer, {
      transports: this.#options.transports as ("websocket" | "polling")[],
      maxMessageBytes,
      bytesPerSecond: messagesPerSecond * maxPayloadBytes,
      connectDeadlineMs,
      patience,
      onArrival: (arrival, request) =>
        this.#gate.arrive(arrival, {
          crowds: this.#entrance.crowds(request),
          address: () => this.#entrance.addressOf(request),
        }),
      onOpened: (request, connection) => this.#entrance.opened(request, connection),
      origins,
      onFlood: (cause) => metrics.floods.inc({ cause }),
      errors,
    });
    io.use((socket, next) => {
      void this.#letIn(socket)
        .catch((error: unknown) => {
          this.#context.logger.error({ err: error }, "a connection could not be checked");
          return refuse("auth_unavailable", "the connection could not be checked", undecidedRetryMs);
        })
        .then((refusal) => {
          this.#context.metrics.connects.inc({ outcome: refusal?.code ?? "accepted" });
          next(refusal && Object.assign(new Error(refusal.message), { data: refusal }));
          if (refusal) closeLater(socket);
        });
    });
    io.on("connection", (socket) =>
      errors.contain(
        "frame",
        () => this.#welcome(socket),
        () => transportOf(socket).terminate(),
      ),
    );
    this.#io = io;
  }

  /** Nobody is let in any more. */
  refuse(): void {
    this.#entrance.close();
    this.#returnPolicy.stop();
  }

  /** Tells every client that is still there to come back elsewhere, then closes. */
  async stop(): Promise<void> {
    this.refuse();
    for (const session of this.#context.sessions.all) {
      session.end("draining", "this node is stopping", { reconnect: true, retryAfterMs: drainRetryMs });
    }
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, stopPatienceMs);
    await Promise.race([this.#entrance.empty(), tooLong]);
    clearTimeout(timer);
    // Not io.close(): its DISCONNECT packets would keep stock clients from returning.
    this.#io?.engine.close();
    this.#gate.stop();
  }

  /** @returns why not. On success the session is in `socket.data`, and messages to its user reach it. */
  async #letIn(socket: Socket): Promise<ConnectRefusal | undefined> {
    return this.#entrance.letIn(
      socket,
      async (entering) => this.#checkIn(socket, entering),
      (closedBy) => this.#context.errors.contain("frame", () => this.#leave(socket, closedBy)),
    );
  }

  async #checkIn(socket: Socket, entering: Entering): Promise<ConnectRefusal | undefined> {
    const { opened, origin, deadline } = entering;
    const checked = await checkHandshake(opened, origin, deadline, this.#context);
    if (checked.kind === "refused") return checked.refusal;
    const { sessionsPerUser } = this.#options.limits;
    if (sessionsPerUser > 0 && !checked.resumed) {
      const refusal = await refuseOneTooMany(identityKey(checked.credentials), sessionsPerUser, this.#context);
      if (refusal) return refusal;
    }
    if (performance.now() > deadline) return tooLate();
    const session = this.#createSession(socket, checked);
    socket.data = session;
    const begun = await beginSession(session, checked.resumed, this.#context);
    switch (begun.kind) {
      case "revoked":
        this.#leave(socket);
        return this.#checkIn(socket, { ...entering, opened: { ...opened, resumable: undefined } });
      case "refused":
        return begun.refusal;
      case "begun":
    }
    if (this.#entrance.isClosed) return this.#entrance.stopping(entering.origin.address);
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
    beginInput(socket);
    const { tenant } = session.credentials;
    const welcome: Welcome = {
      protocol: protocolVersion,
      node: context.node,
      sessionId: session.id,
      user: session.user,
      ...(tenant !== undefined && { tenant }),
      resumed: session.resumed,
      resumeToken: context.resumeTokens.seal(session.resumable),
      expiresAt: session.expiresAt,
      maxPayloadBytes,
      reconnect: this.#returnPolicy.current,
    };
    session.welcome(eventFrame("sync:welcome", welcome));
    receiveEvents(socket, (event) => dispatch(session, event, context), context.errors);
    // A packet that is no packet.
    socket.on("error", (error: Error) => {
      context.logger.debug({ err: error }, "bad packet");
      transportOf(socket).close(false);
    });
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
    if (session.held.claim > 0) holdings.end(session.stored);
    const reason = session.endedBy ?? (moved ? "moved" : frozen ? "ping_timeout" : "client");
    if (session.welcomed) this.#context.metrics.disconnects.inc({ reason });
  }
}

/** A stock client leaves by itself when it is refused. */
function closeLater(socket: Socket): void {
  const timer = setTimeout(() => {
    if (socket.conn.readyState === "open") transportOf(socket).close(false);
  }, leaveMs);
  timer.unref();
  socket.conn.once("close", () => clearTimeout(timer));
}
