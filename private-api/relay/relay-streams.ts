import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { AnswerBudget, type AnswerPart } from "../../shared/services/answer-budget.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import {
  relayContentType,
  type RelayHello,
  relayPath,
  relayVersion,
  relayVersionHeader,
} from "../../shared/protocol/relay.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { ConnectedGateways } from "./connected-gateways.ts";
import { Pauses } from "./pauses.ts";
import { RelayAnswerer } from "./relay-answerer.ts";

/** Refused gateways retry: the refusal is logged once in this time. */
const logRefusalEveryMs = 60_000;

/** Streams of questions from gateways: read as they arrive, answered in the order of the services' answers. */
export class RelayStreams implements Service {
  readonly #open = new Set<RelayAnswerer>();
  readonly #budget = new AnswerBudget();
  readonly #gateways: ConnectedGateways;
  readonly #pauses: Pauses;
  #opened = 0;
  #draining = false;
  #refusalLoggedAt = -Infinity;

  constructor({ errors, logger }: { errors: ContainedErrors; logger: Logger }) {
    this.#gateways = new ConnectedGateways(logger);
    this.#pauses = new Pauses(errors);
  }

  get count(): number {
    return this.#open.size;
  }

  async start(): Promise<void> {
    this.#pauses.start();
  }

  /** Asks gateways to send new questions to another process, and answers the questions already here. */
  async stop(): Promise<void> {
    this.#draining = true;
    await Promise.all([...this.#open].map((answerer) => answerer.drain()));
    this.#pauses.stop();
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
          // After the hijack only this code closes the response.
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
    const onHello = (hello: RelayHello): void => this.#gateways.add(request, hello);
    const unreadMs = (since: number): number => this.#pauses.unreadMs(since);
    const answerer = new RelayAnswerer(request, response, { part, onHello, unreadMs, context });
    this.#open.add(answerer);
    response.once("close", () => {
      this.#open.delete(answerer);
      this.#gateways.remove(request);
    });
  }

  #checkVersion(given: string | string[] | undefined, logger: Logger): void {
    if (given === String(relayVersion)) return;
    // Version 1 was sent in the hello line only.
    const gateway = typeof given === "string" ? excerpt(given) : "1";
    const now = performance.now();
    if (now - this.#refusalLoggedAt > logRefusalEveryMs) {
      this.#refusalLoggedAt = now;
      logger.error({ gateway, privateApi: relayVersion }, "a gateway of another relay version is refused");
    }
    throw new TidegateError(
      "invalid_request",
      `this private API speaks relay version ${relayVersion}, the gateway ${gateway}: run both in one version`,
    );
  }
}
