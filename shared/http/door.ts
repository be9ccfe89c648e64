/** The one way an HTTP door is built: strict schemas, errors as problems, in order to the end. */
import type { AddressInfo } from "node:net";
import Ajv from "ajv";
import Fastify, { type FastifyInstance, LogController } from "fastify";
import { TidegateError } from "../errors.ts";
import type { Service } from "../lifecycle.ts";
import type { Logger } from "../logging.ts";
import { answerWithProblems, sendProblem } from "./problems.ts";

/** A channel's name, percent-encoded. */
const maxParamLength = 1_024;

const stopPatienceMs = 2_000;

/** Nothing is dropped or converted on the way in, and every finding is told; a query is text and has its numbers read. */
const strict = { removeAdditional: false, useDefaults: true, allErrors: true } as const;
const bodyAjv = new Ajv.default({ ...strict, coerceTypes: false });
const queryAjv = new Ajv.default({ ...strict, coerceTypes: true });

export function createDoor(options: { logger: Logger; bodyLimit: number }): FastifyInstance {
  const app = Fastify({
    loggerInstance: options.logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.bodyLimit,
    routerOptions: { maxParamLength },
    forceCloseConnections: "idle",
    return503OnClosing: false,
    // Data is anybody's JSON, whatever its names; nothing here merges it into objects.
    onProtoPoisoning: "ignore",
    onConstructorPoisoning: "ignore",
    frameworkErrors: (error, _request, reply) => {
      void sendProblem(reply, new TidegateError("invalid_request", error.message));
    },
  }) as unknown as FastifyInstance;
  app.setValidatorCompiler(({ schema, httpPart }) => {
    const ajv = httpPart === "body" ? bodyAjv : queryAjv;
    return ajv.compile(schema as object);
  });
  answerWithProblems(app);
  return app;
}

/** A door as a service: listens from start to stop; requests under way come to their end. */
export class ListeningDoor implements Service {
  readonly app: FastifyInstance;
  readonly #host: string;
  readonly #port: number;

  constructor(app: FastifyInstance, address: { host: string; port: number }) {
    this.app = app;
    this.#host = address.host;
    this.#port = address.port;
  }

  /** The port that is listened on; the system's choice where 0 was asked for. */
  get port(): number {
    return (this.app.server.address() as AddressInfo).port;
  }

  async start(): Promise<void> {
    await this.app.listen({ host: this.#host, port: this.#port });
  }

  /** Requests that are not complete by then are cut off: whoever holds one open must not hold the stop. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.app.server.closeAllConnections(), stopPatienceMs);
    await this.app.close();
    clearTimeout(timer);
  }
}
