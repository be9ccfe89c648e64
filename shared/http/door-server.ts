/** Node's HTTP server with bounded connections and timeouts. A failing listener closes its peer, not the process. */
import { type IncomingMessage, Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { DoorConnections } from "./connections.ts";
import { DoorInput } from "./door-input.ts";
import { type DirectService, type Exchange, NodeExchange, PlainExchange } from "./exchange.ts";
import type { PlainRequest } from "./plain-request.ts";

/** How long a door waits for a peer, in ms. */
export interface DoorTimeouts {
  /** For the head of a request: from the start of the connection, or from the first byte of the request. */
  headMs: number;
  /** For a whole request with its head. Enough for 64 KiB at 2 KiB a second. */
  requestMs: number;
  /** Between two requests. Longer than the 60 s of common balancers: a balancer must close first, or its next request is lost. */
  idleMs: number;
  /** Without any byte sent or taken by the peer. Longer than a long poll. */
  stalledMs: number;
  /** Interval of the check of `headMs` and `requestMs`. */
  checkMs: number;
  /** For requests under way at a stop. */
  stopMs: number;
}

export const defaultTimeouts: DoorTimeouts = {
  headMs: 10_000,
  requestMs: 30_000,
  idleMs: 65_000,
  stalledMs: 120_000,
  checkMs: 1_000,
  stopMs: 2_000,
};

/** Of silence, until the system probes whether the peer's machine is still there. Without an answer the connection ends 10 s later. */
const probeAfterMs = 60_000;

/** Events that a peer causes: an exception in a listener closes that peer. Exceptions in listeners of other events escape. */
type PeerEvent = "connection" | "request" | "upgrade" | "clientError";

export class DoorServer extends Server {
  readonly #connections: DoorConnections;
  /** Whether other bounds already count a request. */
  vouches: (request: IncomingMessage) => boolean = () => false;
  /** Serve requests before any listener hears of them. `plain`: past Node's parser, too. */
  services: { readonly any: DirectService; readonly plain: DirectService } = { any: nobody, plain: nobody };
  #closesIdle = false;
  readonly #errors: ContainedErrors;
  readonly #inputs = new WeakMap<Socket, DoorInput>();

  constructor(options: { timeouts: DoorTimeouts; connections: DoorConnections; errors: ContainedErrors }) {
    const { headMs, requestMs, idleMs, stalledMs, checkMs } = options.timeouts;
    super({
      headersTimeout: headMs,
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: checkMs,
      keepAlive: true,
      keepAliveInitialDelay: probeAfterMs,
    });
    this.setTimeout(stalledMs);
    // Node itself would answer a request with an unknown Expect, and read all of its body, before any bound of the door counts it.
    this.on("checkExpectation", (request, response) => void this.emit("request", request, response));
    this.#connections = options.connections;
    this.#errors = options.errors;
  }

  override emit(event: string | symbol, ...args: unknown[]): boolean {
    const socket = peerOf(event, args);
    if (!socket) return super.emit(event as string, ...args);
    let heard = true;
    this.#errors.contain(
      "http",
      () => {
        if (!this.#admits(event as PeerEvent, args)) return;
        heard = super.emit(event as string, ...args);
        if (event !== "connection") return;
        const accepts = (chunk: Buffer): boolean => this.#connections.accepts(socket, chunk);
        const serves = (request: PlainRequest): boolean => this.#servesPlain(socket, request);
        this.#inputs.set(socket, new DoorInput(socket, { accepts, serves }));
      },
      () => socket.destroy(),
    );
    return heard;
  }

  /**
   * Also called by a stop. Node takes a connection for idle whose request it has not seen: it closes none before all of these have their
   * answers, or are gone.
   */
  override closeIdleConnections(): void {
    this.#closesIdle = this.#connections.owesPlainAnswer;
    if (!this.#closesIdle) super.closeIdleConnections();
  }

  /** After one of them. */
  readonly #continueClosing = (): void => {
    if (this.#closesIdle) this.closeIdleConnections();
  };

  /** @returns false where Node's server is to parse the request. */
  #servesPlain(socket: Socket, request: PlainRequest): boolean {
    const serve = this.#connections.isFree(socket) ? this.services.plain(request) : undefined;
    if (!serve) return false;
    this.#connections.requestedPlain(socket);
    const onAnswered = (): void => {
      this.#connections.answeredPlain(socket);
      this.#inputs.get(socket)?.answered();
      this.#continueClosing();
    };
    const exchange = new PlainExchange(request, socket, {
      idleSeconds: Math.floor(this.keepAliveTimeout / 1_000),
      onVouched: () => this.#connections.vouchFor(socket),
      onAnswered,
    });
    this.#serve(serve, exchange);
    return true;
  }

  #serve(serve: (exchange: Exchange) => unknown, exchange: Exchange): void {
    this.#errors.contain(
      "http",
      () => serve(exchange),
      () => exchange.socket.destroy(),
    );
  }

  /** @returns false where no listener is to hear of the event: the connection was closed, or the request is served. */
  #admits(event: PeerEvent, args: unknown[]): boolean {
    switch (event) {
      case "connection": {
        const [socket] = args as [Socket];
        this.#connections.arrived(socket);
        socket.once("close", this.#continueClosing);
        return !socket.destroyed;
      }
      case "request": {
        const [request, response] = args as [IncomingMessage, ServerResponse];
        request.on("error", ignore);
        response.on("error", ignore);
        if (!this.#connections.requested(request, response)) return false;
        const vouch = (): void => this.#connections.vouchFor(request.socket);
        if (this.vouches(request)) vouch();
        const serve = this.services.any(request);
        if (!serve) return true;
        this.#serve(serve, new NodeExchange(request, response, vouch));
        return false;
      }
      case "upgrade": {
        // Node hands the socket over without an error listener; an unheard error would end the process.
        const [, socket] = args as [IncomingMessage, Socket];
        socket.on("error", ignore);
        // Node also removes its own listener. The new owner may lift the timeout, as a websocket does once it is open.
        socket.setTimeout(this.timeout, () => socket.destroy());
        this.#inputs.get(socket)?.end();
        this.#connections.upgraded(socket);
        return true;
      }
      case "clientError":
        return true;
    }
  }
}

const nobody: DirectService = () => undefined;

function peerOf(event: string | symbol, args: unknown[]): Socket | undefined {
  const [first, second] = args;
  switch (event as PeerEvent) {
    case "connection":
      return first as Socket;
    case "request":
      return (first as IncomingMessage).socket;
    case "upgrade":
    case "clientError":
      return second as Socket;
    default:
      return undefined;
  }
}

/** The connection is closed by then, and the code that serves the request notices. */
function ignore(): void {}
