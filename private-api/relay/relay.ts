import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { AnswerBudget, type AnswerPart } from "../../shared/services/answer-budget.ts";
import { type CallOutcome, refused } from "../../shared/services/answers.ts";
import { type Line, LineBatcher, LineSplitter } from "../../shared/json/lines.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import {
  maxQuestionLineBytes,
  readRelayLine,
  relayContentType,
  relayFromGateway,
  relayLine,
  relayPath,
  type RelayQuestion,
  relayVersion,
  relayVersionHeader,
} from "../../shared/protocol/relay.ts";
import type { PrivateApiContext } from "../node/context.ts";
import type { Upstream } from "../upstream/upstream.ts";

/** Answers that a gateway has not taken yet; past this, what it asked and no service has been sent yet is not sent. */
const maxUntakenBytes = 8 * 1024 * 1024;
/** Gateways that are refused try again and again. */
const logRefusalEveryMs = 60_000;

/** Streams of questions from gateways: read as they come, answered as the services answer. */
export class RelayStreams implements Service {
  readonly #open = new Set<RelayAnswerer>();
  readonly #budget = new AnswerBudget();
  #opened = 0;
  #draining = false;
  #refusalLoggedAt = -Infinity;

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
        { config: { access: "relay", isStream: true }, schema: { hide: true } },
        (request, reply) => {
          if (this.#draining) throw new TidegateError("upstream_unavailable", "this process is stopping");
          this.#checkVersion(request.headers[relayVersionHeader], context.logger);
          reply.hijack();
          // Nobody else closes what has been taken over.
          context.errors.contain(
            "relay",
            () => this.#begin(request.raw, reply.raw, context),
            () => reply.raw.destroy(),
          );
        },
      );
    });
  }

  #begin(request: IncomingMessage, response: ServerResponse, context: PrivateApiContext): void {
    const asker = `stream ${++this.#opened}`;
    const part = (session: string): AnswerPart => this.#budget.part(asker, session);
    const answerer = new RelayAnswerer(request, response, { part, context });
    this.#open.add(answerer);
    response.once("close", () => this.#open.delete(answerer));
  }

  #checkVersion(said: string | string[] | undefined, logger: Logger): void {
    if (said === String(relayVersion)) return;
    // The first version said it in the hello alone.
    const gateway = typeof said === "string" ? said : "1";
    const now = performance.now();
    if (now - this.#refusalLoggedAt > logRefusalEveryMs) {
      this.#refusalLoggedAt = now;
      logger.error({ gateway, privateApi: relayVersion }, "a gateway of another relay version is refused");
    }
    throw new TidegateError(
      "invalid_request",
      `this private API speaks relay version ${relayVersion}, the gateway ${gateway}: both must be of one version`,
    );
  }
}

/** The answering end of one stream. */
class RelayAnswerer {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #part: (session: string) => AnswerPart;
  readonly #upstream: Upstream;
  readonly #errors: ContainedErrors;
  readonly #batcher = new LineBatcher((lines) => this.#write(lines));
  /** Of large answers that the gateway has not taken yet. */
  readonly #untaken = new Set<AnswerPart>();
  #unanswered = 0;
  #allAsked = false;

  /** @param options.part of the budget for answers, by session. */
  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    options: { part: (session: string) => AnswerPart; context: PrivateApiContext },
  ) {
    const { upstream, errors, logger } = options.context;
    this.#request = request;
    this.#response = response;
    this.#part = options.part;
    this.#upstream = upstream;
    this.#errors = errors;
    response.on("drain", () => request.resume());
    response.on("error", (error) => logger.debug({ err: error }, "a relay stream broke off"));
    response.once("close", () => {
      for (const part of this.#untaken) part.release();
    });
    request.on("error", () => response.destroy());
    response.writeHead(200, { "content-type": relayContentType });
    response.flushHeaders();
    const splitter = new LineSplitter(maxQuestionLineBytes);
    request.on("data", (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) errors.contain("relay", () => this.#receive(line));
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

  #receive(line: Line): void {
    const read = readRelayLine(line, relayFromGateway);
    if (read.kind === "unreadable") return this.#refuse(read.id, read.reason);
    const { head, payload } = read;
    if ("hello" in head) return;
    if (head.kind === "call" && payload === undefined) return this.#refuse(head.id, "it has no data");
    this.#unanswered++;
    this.#errors.contain("relay", () => this.#answer(head, payload ?? "null"));
  }

  /** The line's own call fails, and nothing else. */
  #refuse(id: number | undefined, reason: string): void {
    this.#errors.report("relay", new Error(`a question cannot be read: ${reason}`));
    if (id === undefined) return;
    this.#unanswered++;
    this.#pass(id, refused("upstream_bad_response", `the private API cannot read the question: ${reason}`));
  }

  async #answer(question: RelayQuestion, data: string): Promise<void> {
    const response = this.#response;
    const part = this.#part(question.identity.sessionId);
    const taker = {
      part,
      get isThere() {
        return !response.destroyed && response.writableLength < maxUntakenBytes;
      },
    };
    const outcome = await this.#upstream.answer(question, data, taker).catch((error: unknown) => {
      this.#errors.report("relay", error);
      return refused("upstream_failed", "the question could not be handled");
    });
    this.#pass(question.id, outcome, part);
  }

  /** @param part of the budget, which the answer needs until it is written. */
  #pass(id: number, outcome: CallOutcome, part?: AnswerPart): void {
    this.#unanswered--;
    const line = outcome.ok
      ? relayLine(JSON.stringify({ id, ok: true }), outcome.data)
      : relayLine(JSON.stringify({ id, ok: false, error: outcome.error }), outcome.details);
    if (part?.isLarge) {
      this.#untaken.add(part);
      this.#batcher.flush();
      this.#write(`${line}\n`, () => {
        this.#untaken.delete(part);
        part.release();
      });
    } else {
      part?.release();
      this.#batcher.add(line);
    }
    this.#endWhenAnswered();
  }

  /** A gateway that does not take its answers gets no more questions read. */
  #write(lines: string, written?: () => void): void {
    if (this.#response.destroyed) written?.();
    else if (!this.#response.write(lines, written)) this.#request.pause();
  }

  #endWhenAnswered(): void {
    if (!this.#allAsked || this.#unanswered > 0) return;
    this.#batcher.flush();
    this.#response.end();
  }
}
