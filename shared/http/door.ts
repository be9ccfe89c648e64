/** Builds an HTTP door: bounded connections and times, strict schemas, errors as problems, a graceful stop. */
import type { IncomingMessage, ServerResponse } from "node:http";
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
import { defaultTimeouts, DoorServer, type DoorTimeouts } from "./door-server.ts";
import type { DirectService } from "./exchange.ts";
import { answerWithProblems, sendProblem } from "./problems.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Most brackets, commas and colons in a JSON body. */
    maxStructure?: number;
    /** The member `data` of a JSON body stays text. */
    passesData?: boolean;
    /** Exempt from timeouts once the door vouches for the request. */
    isStream?: boolean;
  }
}

/** A channel's name, percent-encoded. */
const maxParamLength = 1_024;

/**
 * Connections that wait in the system until the event loop accepts them. The system lowers it to `net.core.somaxconn`; it drops or resets
 * what finds no room, and the peer tries again after a second or more. Node's 511 are too few for clients that return all at once.
 */
const maxWaiting = 4_096;

/** Ajv drops and converts nothing, and reports every finding. Only queries are coerced: their numbers arrive as text. */
const strict = { removeAdditional: false, useDefaults: true, allErrors: true } as const;
const bodyAjv = new Ajv.default({ ...strict, coerceTypes: false });
const queryAjv = new Ajv.default({ ...strict, coerceTypes: true });

export interface DoorOptions {
  /** Label in the metrics. */
  name: string;
  host: string;
  port: number;
  /** Default of routes, in bytes. */
  bodyLimit: number;
  bounds: ConnectionBounds;
  errors: ContainedErrors;
  /** Counts connections that the door closed. */
  closed: DoorCounter;
  logger: Logger;
  timeouts?: DoorTimeouts;
}

/** Listens from start to stop. A stop lets requests under way finish. */
export class Door implements Service {
  readonly app: FastifyInstance;
  readonly connections: DoorConnections;
  readonly #options: DoorOptions;
  readonly #server: DoorServer;
  readonly #timeouts: DoorTimeouts;
  /** Connections with a stream under way. */
  readonly #streaming = new WeakSet<Socket>();

  constructor(options: DoorOptions) {
    this.#options = options;
    const { bounds, timeouts = defaultTimeouts } = options;
    this.#timeouts = timeouts;
    this.connections = new DoorConnections(bounds, (reason) => this.#count(reason));
    this.#server = new DoorServer({
      timeouts,
      connections: this.connections,
      errors: options.errors,
    });
    this.#server.maxConnections = bounds.total;
    this.#server.on("drop", () => this.#count("full"));
    this.app = this.#createApp();
  }

  /** The port in use; chosen by the system if the options say 0. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    await this.app.listen({ host, port, backlog: maxWaiting });
  }

  /** Cuts requests that are still incomplete after {@link DoorTimeouts.stopMs}: a slow peer must not delay the stop. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#server.closeAllConnections(), this.#timeouts.stopMs);
    await this.app.close();
    clearTimeout(timer);
  }

  /** @param belongs whether other bounds already count a request, e.g. as part of a session. Call once, before the start. */
  exempt(belongs: (request: IncomingMessage) => boolean): void {
    this.#server.vouches = belongs;
  }

  /**
   * Ahead of the routes, which cost a request most of its time. Call once, before the start.
   * @param services.plain for requests that need nothing of Node's server either: answered within a minute
   */
  serveFirst(services: { any: DirectService; plain: DirectService }): void {
    this.#server.services = services;
  }

  /** Call for a request whose caller is known. It exempts a stream from all timeouts. */
  vouchFor(request: IncomingMessage, response: ServerResponse, options: { isStream: boolean }): void {
    this.connections.vouchFor(request.socket);
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
      // No request logs anything by itself, and a logger for each costs more than its routing.
      childLoggerFactory: (logger) => logger,
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
    // Clients may send a content type without a body: then no parser is needed.
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
    // The server reports a late request once, so ignoring it exempts the stream.
    if (isLate && this.#streaming.has(socket)) return;
    if (socket.destroyed) return;
    if (error.code === "ECONNRESET") return void socket.destroy();
    this.#count(isLate ? "late" : "malformed");
    const status = isLate ? 408 : error.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    // It must not be written into an answer that is under way, nor taken for that of an earlier request.
    if (socket.writable && !this.connections.owesAnswer(socket)) socket.write(bareAnswer(status));
    if (isLate) socket.destroy();
    else this.connections.closeLate(socket);
  }

  #count(reason: Closure): void {
    this.#options.closed.inc({ door: this.#options.name, reason });
  }
}

function bareAnswer(status: 400 | 408 | 431): string {
  const titles = { 400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large" };
  return `HTTP/1.1 ${status} ${titles[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}
