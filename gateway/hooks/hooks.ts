/** `POST /hooks/{source}[/…]` on the public port: receives webhooks. `GET` answers the challenge of `meta`. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Door } from "../../shared/http/door.ts";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { ownOrigin } from "../bootstrap/origins.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import type { GatewayContext } from "../node/context.ts";
import { challengeAnswer, type HookAnswer } from "./answer.ts";
import { HeldBodies } from "./held-bodies.ts";
import { envelopeOf, receiveWebhook } from "./receive-webhook.ts";
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
  /** Of one body. */
  maxBytes: number;
  publicUrl: string | undefined;
  trustedProxies: ProxyTrust;
  /** False while the node drains: it still receives, and asks peers to connect elsewhere next time. */
  accepting: () => boolean;
}

type HookRequest = FastifyRequest<{ Params: { source: string } }>;

/** @returns the bodies that the node holds, for the metrics. */
export function addHooks({ door, ...options }: HooksOptions): HeldBodies {
  const { context, sources, maxBytes, publicUrl, trustedProxies, accepting } = options;
  const { metrics } = context;
  const held = new HeldBodies();
  const refusalDelay = new RefusalDelay(maxDelayed);
  const publicOrigins = publicUrl === undefined ? [] : [new URL(publicUrl).origin];

  function sourceOf({ params }: HookRequest): Source {
    const source = sources.find(params.source);
    if (source) return source;
    // Providers take a 404 for good.
    if (context.currentRules.rules.version === 0)
      throw new TidegateError("upstream_unavailable", "the gateway has no rules yet", { retryAfterMs: noRulesRetryMs });
    throw new TidegateError("unknown_source", "the rules have no such source");
  }

  async function receive(request: HookRequest, reply: FastifyReply): Promise<HookAnswer> {
    const { raw } = request;
    const source = sourceOf(request);
    const urls = (): readonly string[] =>
      [...publicOrigins, ownOrigin(request, trustedProxies)].map((origin) => `${origin}${raw.url ?? ""}`);
    const onGenuine = (): void => {
      if (source.rule.secrets) door.vouchFor(raw, reply.raw, { isStream: false });
    };
    const address = clientAddress(raw, trustedProxies);
    return receiveWebhook(source, { raw, address, urls, onGenuine }, { context, held, maxBytes });
  }

  function challenge(request: HookRequest): HookAnswer {
    const { name, rule, verifyToken } = sourceOf(request);
    if (rule.verifyToken === undefined) throw new TidegateError("not_found", "this source answers POST only");
    if (verifyToken === undefined) throw missingSecret(name);
    const answer = metaChallenge(envelopeOf(request.raw).query, verifyToken);
    if (answer === undefined) throw new TidegateError("forbidden", "the verify token is wrong, or the request is none");
    return challengeAnswer(answer);
  }

  async function answer(
    request: HookRequest,
    reply: FastifyReply,
    work: () => HookAnswer | Promise<HookAnswer>,
  ): Promise<FastifyReply> {
    const label = sources.find(request.params.source)?.name ?? unknownSource;
    const stopTimer = metrics.hookSeconds.startTimer({ source: label });
    if (!accepting()) void reply.header("connection", "close");
    try {
      const { outcome, status, text, contentType } = await work();
      stopTimer();
      metrics.hooks.inc({ source: label, outcome });
      if (contentType !== undefined)
        void reply.headers({ "content-type": contentType, "x-content-type-options": "nosniff" });
      return reply.code(status).send(text);
    } catch (error) {
      stopTimer();
      const code = error instanceof TidegateError ? error.code : "upstream_failed";
      metrics.hooks.inc({ source: label, outcome: code });
      context.logger.debug({ source: label, code, reason: (error as Error).message }, "webhook refused");
      if (code === "bad_signature" || code === "forbidden") {
        await new Promise<void>((resolve) => refusalDelay.before(resolve));
      }
      throw error;
    }
  }

  door.app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    // The body is read once its source is known.
    scope.addContentTypeParser("*", (_request, _payload, done) => done(null));
    for (const path of ["/hooks/:source", "/hooks/:source/*"]) {
      scope.post(path, async (request: HookRequest, reply) =>
        answer(request, reply, async () => receive(request, reply)),
      );
      scope.get(path, { exposeHeadRoute: false }, async (request: HookRequest, reply) =>
        answer(request, reply, () => challenge(request)),
      );
    }
  });
  return held;
}
