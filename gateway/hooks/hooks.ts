/** `POST /hooks/{source}[/…]` on the public port: receives webhooks. `GET` answers the challenge of `meta`. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Door } from "../../shared/http/door.ts";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { ownOrigin } from "../bootstrap/origins.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import type { JournaledQueues } from "../journal/journaled-queues.ts";
import type { GatewayContext } from "../node/context.ts";
import { challengeAnswer, type HookAnswer } from "./answer.ts";
import { HeldBodies } from "./held-bodies.ts";
import { envelopeOf, receiveWebhook, targetOf } from "./receive-webhook.ts";
import { missingSecret, type Source, type Sources } from "./sources.ts";
import { metaChallenge } from "./verify/meta.ts";

/** Forged webhooks that are answered late; further ones are answered at once. */
const maxDelayed = 1_000;
/** Until the store is back, or rules are put. */
const noRulesRetryMs = 5_000;
/** In the metrics: no name of a source begins with it. */
const unknownSource = "-";

export interface HooksOptions {
  door: Door;
  context: GatewayContext;
  sources: Sources;
  journal: JournaledQueues | undefined;
  /** Of one body. */
  maxBytes: number;
  publicUrl: string | undefined;
  trustedProxies: ProxyTrust;
  /** False while the node drains: it still receives, and asks peers to connect elsewhere next time. */
  accepting: () => boolean;
}

type HookRequest = FastifyRequest<{ Params: { source: string } }>;

export class Hooks {
  readonly #options: HooksOptions;
  readonly #held = new HeldBodies();
  readonly #refusalDelay = new RefusalDelay(maxDelayed);
  readonly #publicOrigins: readonly string[];

  constructor(options: HooksOptions) {
    const { publicUrl } = options;
    this.#options = options;
    this.#publicOrigins = publicUrl === undefined ? [] : [new URL(publicUrl).origin];
  }

  /** Of webhooks that arrive or are being stored. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** Call once, before the door starts. */
  addRoutes(): void {
    this.#options.door.app.register(async (scope) => {
      scope.removeAllContentTypeParsers();
      // The body is read once its source is known.
      scope.addContentTypeParser("*", (_request, _payload, done) => done(null));
      for (const path of ["/hooks/:source", "/hooks/:source/*"]) {
        scope.post(path, async (request: HookRequest, reply) =>
          this.#answer(request, reply, async () => this.#receive(request, reply)),
        );
        scope.get(path, { exposeHeadRoute: false }, async (request: HookRequest, reply) =>
          this.#answer(request, reply, () => this.#challenge(request)),
        );
      }
    });
  }

  async #answer(
    request: HookRequest,
    reply: FastifyReply,
    work: () => HookAnswer | Promise<HookAnswer>,
  ): Promise<FastifyReply> {
    const { context, sources, accepting } = this.#options;
    const { metrics, logger } = context;
    const source = sources.find(request.params.source)?.name ?? unknownSource;
    const stopTimer = metrics.hookSeconds.startTimer({ source });
    if (!accepting()) void reply.header("connection", "close");
    try {
      const { outcome, status, text, contentType } = await work();
      stopTimer();
      metrics.hooks.inc({ source, outcome });
      if (contentType !== undefined) {
        void reply.headers({ "content-type": contentType, "x-content-type-options": "nosniff" });
      }
      return reply.code(status).send(text);
    } catch (error) {
      stopTimer();
      const code = error instanceof TidegateError ? error.code : "upstream_failed";
      metrics.hooks.inc({ source, outcome: code });
      logger.debug({ source, code, reason: (error as Error).message }, "webhook refused");
      if (code === "bad_signature" || code === "forbidden") {
        await new Promise<void>((resolve) => this.#refusalDelay.before(resolve));
      }
      throw error;
    }
  }

  async #receive(request: HookRequest, reply: FastifyReply): Promise<HookAnswer> {
    const { door, context, journal, trustedProxies, maxBytes } = this.#options;
    const { raw } = request;
    const source = this.#sourceOf(request);
    const urls = (): readonly string[] =>
      [...this.#publicOrigins, ownOrigin(request, trustedProxies)].map((origin) => `${origin}${targetOf(raw)}`);
    const onGenuine = (): void => {
      if (source.rule.secrets) door.vouchFor(raw, reply.raw, { isStream: false });
    };
    const address = clientAddress(raw, trustedProxies);
    return receiveWebhook(source, { raw, address, urls, onGenuine }, { context, journal, held: this.#held, maxBytes });
  }

  #challenge(request: HookRequest): HookAnswer {
    const { name, rule, verifyToken } = this.#sourceOf(request);
    if (rule.verifyToken === undefined) throw new TidegateError("not_found", "this source answers POST only");
    if (verifyToken === undefined) throw missingSecret(name);
    const challenge = metaChallenge(envelopeOf(request.raw).query, verifyToken);
    if (challenge !== undefined) return challengeAnswer(challenge);
    throw new TidegateError("forbidden", "the verify token is wrong, or the query is not that of a challenge");
  }

  #sourceOf({ params }: HookRequest): Source {
    const { context, sources } = this.#options;
    const source = sources.find(params.source);
    if (source) return source;
    // Providers take a 404 for good.
    if (context.currentRules.rules.version === 0) {
      throw new TidegateError("upstream_unavailable", "the gateway has no rules yet", { retryAfterMs: noRulesRetryMs });
    }
    throw new TidegateError("unknown_source", "the rules have no such source");
  }
}
