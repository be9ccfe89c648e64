import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";
import { TidegateError } from "../../shared/errors.ts";
import { parseJson } from "../../shared/json.ts";
import { LineBatcher, LineSplitter } from "../../shared/lines.ts";
import type { Service } from "../../shared/lifecycle.ts";
import type { Logger } from "../../shared/logging.ts";
import { maxRelayLineLength, relayContentType, relayFromGateway, relayPath } from "../../shared/protocol/relay.ts";
import type { PrivateApiContext } from "../context.ts";
import type { Upstream } from "../routing/upstream.ts";

/** Streams of questions from gateways: read as they come, answered as the services answer. */
export class RelayStreams implements Service {
  readonly #open = new Set<RelayAnswerer>();
  #draining = false;

  get count(): number {
    return this.#open.size;
  }

  async start(): Promise<void> {}

  /** Gateways send their questions elsewhere, and get the answers to those they have sent. */
  async stop(): Promise<void> {
    this.#draining = true;
    await Promise.all([...this.#open].map((answerer) => answerer.drain()));
  }

  addTo(app: FastifyInstance, context: PrivateApiContext): void {
    app.register(async (scope) => {
      scope.addContentTypeParser(relayContentType, (_request, payload, done) => done(null, payload));
      scope.post(
        relayPath,
        { preValidation: context.requireScope("relay"), schema: { hide: true } },
        (request, reply) => {
          if (this.#draining) throw new TidegateError("upstream_unavailable", "this process is stopping");
          reply.hijack();
          const answerer = new RelayAnswerer(request.raw, reply.raw, context);
          this.#open.add(answerer);
          reply.raw.once("close", () => this.#open.delete(answerer));
        },
      );
    });
  }
}

class RelayAnswerer {
  readonly #response: ServerResponse;
  readonly #upstream: Upstream;
  readonly #logger: Logger;
  readonly #batcher: LineBatcher;
  #unanswered = 0;
  #allAsked = false;

  constructor(request: IncomingMessage, response: ServerResponse, context: PrivateApiContext) {
    this.#response = response;
    this.#upstream = context.upstream;
    this.#logger = context.logger;
    this.#batcher = new LineBatcher((lines) => {
      // A gateway that does not take its answers gets no more questions read.
      if (!response.destroyed && !response.write(lines)) request.pause();
    });
    response.on("drain", () => request.resume());
    response.on("error", (error) => this.#logger.debug({ err: error }, "a relay stream broke off"));
    request.on("error", () => response.destroy());
    response.writeHead(200, { "content-type": relayContentType });
    response.flushHeaders();
    const splitter = new LineSplitter(maxRelayLineLength);
    request.on("data", (chunk: Buffer) => {
      try {
        for (const line of splitter.push(chunk)) this.#receive(line);
      } catch (error) {
        this.#breakOff(error);
      }
    });
    request.on("end", () => {
      this.#allAsked = true;
      this.#endWhenAnswered();
    });
  }

  /** Asks the gateway to end the stream. Resolves when it is over. */
  async drain(): Promise<void> {
    if (this.#response.destroyed) return;
    const closed = new Promise<void>((resolve) => this.#response.once("close", resolve));
    this.#batcher.add(JSON.stringify({ drain: true }));
    this.#batcher.flush();
    await closed;
  }

  #receive(line: string): void {
    const message = parseJson(line);
    if (!relayFromGateway.Check(message)) throw new Error("a line does not follow the schema");
    if ("hello" in message) return;
    this.#unanswered++;
    void this.#upstream
      .answer(message)
      .catch((error: unknown) => {
        this.#logger.error({ err: error }, "a question failed unexpectedly");
        return { ok: false as const, error: new TidegateError("upstream_failed", "could not be handled").toWire() };
      })
      .then((outcome) => {
        this.#unanswered--;
        this.#batcher.add(JSON.stringify({ id: message.id, ...outcome }));
        this.#endWhenAnswered();
      })
      .catch((error: unknown) => this.#breakOff(error));
  }

  /** The gateway learns at once that no more answers come. */
  #breakOff(error: unknown): void {
    this.#logger.error({ err: error }, "a relay stream cannot go on");
    this.#response.destroy();
  }

  #endWhenAnswered(): void {
    if (!this.#allAsked || this.#unanswered > 0) return;
    this.#batcher.flush();
    this.#response.end();
  }
}
