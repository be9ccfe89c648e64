/** The one way an HTTP door is built: bounded in connections and time, strict schemas, errors as problems, in order to the end. */
import { type IncomingMessage, Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import Ajv from "ajv";
import Fastify, { type FastifyInstance, LogController } from "fastify";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { TidegateError } from "../runtime/errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { maxBodyStructure, parseBody, parseDataBody } from "./body.ts";
import { type Closure, type ConnectionBounds, DoorConnections } from "./connections.ts";
import type { DoorCounter } from "./door-counter.ts";
import { DoorInput } from "./door-input.ts";
import { answerWithProblems, sendProblem } from "./problems.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Brackets, commas and colons that a JSON body may have. */
    maxStructure?: number;
    /** The member `data` of a JSON body stays text. */
    passesData?: boolean;
    /** The request lasts as long as both sides want, once the door vouches for it. */
    isStream?: boolean;
  }
}

/** A channel's name, percent-encoded. */
const maxParamLength = 1_024;

const stopPatienceMs = 2_000;

/** How long a door waits for a peer. */
export interface DoorTimeouts {
  /** For the head of a request: from the connection, or from its first byte. */
  headMs: number;
  /** For a whole request, the head included: 64 KiB come at 2 KiB a second. */
  requestMs: number;
  /** Between two requests. Balancers keep connections for 60 s and must close them first, or a request meets the close. */
  idleMs: number;
  /** For a peer to take a part of its answer, or to send anything. Longer than a poll is held. */
  stalledMs: number;
  /** Between two looks at the first two. */
  checkMs: number;
}

const defaultTimeouts: DoorTimeouts = {
  headMs: 10_000,
  requestMs: 30_000,
  idleMs: 65_000,
  stalledMs: 120_000,
  checkMs: 1_000,
};

/** Nothing is dropped or converted on the way in, and every finding is told; a query is text and has its numbers read. */
const strict = { removeAdditional: false, useDefaults: true, allErrors: true } as const;
const bodyAjv = new Ajv.default({ ...strict, coerceTypes: false });
const queryAjv = new Ajv.default({ ...strict, coerceTypes: true });

export interface DoorOptions {
  /** In the metrics: which door it is. */
  name: string;
  host: string;
  port: number;
  /** Of routes that name none of their own. */
  bodyLimit: number;
  bounds: ConnectionBounds;
  errors: ContainedErrors;
  /** Connections that the door closed. */
  closed: DoorCounter;
  logger: Logger;
  timeouts?: DoorTimeouts;
}

/** A door as a service: listens from start to stop; requests under way come to their end. */
export class Door implements Service {
  readonly app: FastifyInstance;
  readonly connections: DoorConnections;
  readonly #options: DoorOptions;
  readonly #server: DoorServer;
  /** Of streams that are under way. */
  readonly #streaming = new WeakSet<Socket>();

  constructor(options: DoorOptions) {
    this.#options = options;
    const { bounds } = options;
    this.connections = new DoorConnections(bounds, (reason) => this.#count(reason));
    this.#server = new DoorServer({
      timeouts: options.timeouts ?? defaultTimeouts,
      connections: this.connections,
      errors: options.errors,
    });
    this.#server.maxConnections = bounds.total;
    this.#server.on("drop", () => this.#count("full"));
    this.app = this.#createApp();
  }

  /** The port that is listened on; the system's choice where 0 was asked for. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    await this.app.listen({ host, port });
  }

  /** Requests that are not complete by then are cut off: whoever holds one open must not hold the stop. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#server.closeAllConnections(), stopPatienceMs);
    await this.app.close();
    clearTimeout(timer);
  }

  /** @param belongs whether a request is part of something that other bounds count, such as a session. One predicate, set before the start. */
  exempt(belongs: (request: IncomingMessage) => boolean): void {
    this.#server.vouches = belongs;
  }

  /** For a request whose caller is known. A stream is exempt from all timeouts from here on. */
  vouchFor(request: IncomingMessage, response: ServerResponse, options: { isStream: boolean }): void {
    this.connections.vouchFor(request);
    if (!options.isStream) return;
    const { socket } = request;
    this.#streaming.add(socket);
    socket.setTimeout(0);
    response.once("close", () => this.#streaming.delete(socket));
  }

  #createApp(): FastifyInstance {
    const { logger, bodyLimit, errors } = this.#options;
    const app = Fastify({
      loggerInstance: logger,
      logController: new LogController({ disableRequestLogging: true }),
      serverFactory: (onRequest) => this.#server.on("request", onRequest),
      bodyLimit,
      routerOptions: { maxParamLength },
      forceCloseConnections: "idle",
      return503OnClosing: false,
      clientErrorHandler: (error, socket) => this.#refuseMalformed(error, socket),
      frameworkErrors: (error, _request, reply) => {
        void sendProblem(reply, new TidegateError("invalid_request", error.message));
      },
    }) as unknown as FastifyInstance;
    app.setValidatorCompiler(({ schema, httpPart }) => {
      const ajv = httpPart === "body" ? bodyAjv : queryAjv;
      return ajv.compile(schema as object);
    });
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
      const bytes = body as Buffer;
      const { maxStructure = maxBodyStructure, passesData = false } = request.routeOptions.config;
      done(null, bytes.length === 0 ? undefined : passesData ? parseDataBody(bytes) : parseBody(bytes, maxStructure));
    });
    // Clients name a content type where there is no body, too: it says nothing then, and no parser needs to know it.
    app.addHook("onRequest", ({ raw: { headers } }, _reply, done) => {
      if (headers["transfer-encoding"] === undefined && Number(headers["content-length"] ?? 0) === 0) {
        delete headers["content-type"];
      }
      done();
    });
    answerWithProblems(app, errors);
    return app;
  }

  #refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
    const isLate = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    // Asked once for each request: the server does not look at this one again.
    if (isLate && this.#streaming.has(socket)) return;
    if (socket.destroyed) return;
    if (error.code !== "ECONNRESET") this.#count(isLate ? "late" : "malformed");
    const status = isLate ? 408 : error.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    // An answer that is under way must not get another one into its middle.
    if (socket.writable && !this.connections.isAnswering(socket)) socket.write(bareAnswer(status));
    socket.destroy();
  }

  #count(reason: Closure): void {
    this.#options.closed.inc({ door: this.#options.name, reason });
  }
}

function bareAnswer(status: 400 | 408 | 431): string {
  const titles = { 400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large" };
  return `HTTP/1.1 ${status} ${titles[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}

/** What a peer causes. An exception in a listener closes that peer; one in a listener of another event is a bug of the start. */
type PeerEvent = "connection" | "request" | "upgrade" | "clientError";

/** Node's server, with a boundary around the listeners of whatever a peer causes. */
class DoorServer extends Server {
  readonly #connections: DoorConnections;
  vouches: (request: IncomingMessage) => boolean = () => false;
  readonly #errors: ContainedErrors;
  readonly #inputs = new WeakMap<Socket, DoorInput>();

  constructor(options: { timeouts: DoorTimeouts; connections: DoorConnections; errors: ContainedErrors }) {
    const { headMs, requestMs, idleMs, stalledMs, checkMs } = options.timeouts;
    super({
      headersTimeout: headMs,
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: checkMs,
    });
    this.setTimeout(stalledMs);
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
        this.#inputs.set(socket, new DoorInput(socket, (chunk) => this.#connections.accepts(socket, chunk)));
      },
      () => socket.destroy(),
    );
    return heard;
  }

  /** @returns false where the connection was closed instead. */
  #admits(event: PeerEvent, args: unknown[]): boolean {
    switch (event) {
      case "connection": {
        const [socket] = args as [Socket];
        this.#connections.arrived(socket);
        return !socket.destroyed;
      }
      case "request": {
        const [request, response] = args as [IncomingMessage, ServerResponse];
        request.on("error", ignore);
        response.on("error", ignore);
        if (!this.#connections.requested(request, response)) return false;
        if (this.vouches(request)) this.#connections.vouchFor(request);
        return true;
      }
      case "upgrade": {
        // Node gives the socket away without a listener; an error that nobody hears would end the process.
        const [, socket] = args as [IncomingMessage, Socket];
        socket.on("error", ignore);
        this.#inputs.get(socket)?.end();
        this.#connections.upgraded(socket);
        return true;
      }
      case "clientError":
        return true;
    }
  }
}

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

/** The connection is closed by then; what remains of the request sees that. */
function ignore(): void {}
