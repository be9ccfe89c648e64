/** `POST /hooks/{source}[/…]` on the public port: receives webhooks. `GET` answers the challenge of `meta`. */
import type { Door } from "../../shared/http/door.ts";
import type { Exchange, RequestLine } from "../../shared/http/exchange.ts";
import { unexpected } from "../../shared/http/problems.ts";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { ownOrigin } from "../bootstrap/origins.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import type { JournaledQueues } from "../journal/journaled-queues.ts";
import type { GatewayContext } from "../node/context.ts";
import { challengeAnswer, type HookAnswer } from "./answer.ts";
import { HeldBodies } from "./held-bodies.ts";
import { envelopeOf } from "./envelope.ts";
import { receiveWebhook } from "./receive-webhook.ts";
import { missingSecret, type Source, type Sources } from "./sources.ts";
import { sourceIn, targetOf } from "./target.ts";
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

  /** Ahead of the door's routes: a provider may send thousands of webhooks a second. Call once, before the door starts. */
  serve(): void {
    const { door, sources } = this.#options;
    door.serveFirst({
      any: (request) => {
        const name = nameIn(request);
        return name === undefined ? undefined : (exchange) => this.#serve(sources.find(name), exchange);
      },
      plain: (request) => {
        const source = sources.find(nameIn(request) ?? "");
        // A call may outlast Node's idle timer.
        return source?.route.mode === "enqueue" ? (exchange) => this.#serve(source, exchange) : undefined;
      },
    });
  }

  async #serve(found: Source | undefined, exchange: Exchange): Promise<void> {
    const { context, accepting } = this.#options;
    const { metrics, logger } = context;
    const source = found?.name ?? unknownSource;
    const startedAt = performance.now();
    const count = (outcome: string, droppedParts = 0): void => {
      metrics.hookSeconds.observe({ source }, (performance.now() - startedAt) / 1_000);
      if (outcome !== "dropped") metrics.hooks.inc({ source, outcome });
      if (droppedParts > 0) metrics.hooks.inc({ source, outcome: "dropped" }, droppedParts);
    };
    if (!accepting()) exchange.closeAfter();
    try {
      const { outcome, droppedParts, status, text, contentType } = await this.#answer(found, exchange);
      count(outcome, droppedParts);
      const type = contentType !== undefined && { "content-type": contentType, "x-content-type-options": "nosniff" };
      exchange.answer({ status, headers: { ...type }, text });
    } catch (error) {
      const known = error instanceof TidegateError ? error : unexpected();
      if (known !== error) context.errors.report("http", error);
      const { code, message } = known;
      count(code);
      logger.debug({ source, code, reason: message }, "webhook refused");
      if (code === "bad_signature" || code === "forbidden") {
        await new Promise<void>((resolve) => this.#refusalDelay.before(resolve));
      }
      exchange.refuse(known);
    }
  }

  #answer(source: Source | undefined, exchange: Exchange): HookAnswer | Promise<HookAnswer> {
    const { context, journal, trustedProxies, maxBytes } = this.#options;
    if (!source) throw this.#unknown();
    if (exchange.method === "GET") return challenge(source, exchange);
    const urls = (): readonly string[] =>
      [...this.#publicOrigins, ownOrigin(exchange, trustedProxies)].map((origin) => `${origin}${targetOf(exchange)}`);
    const onGenuine = (): void => {
      if (source.rule.secrets) exchange.vouch();
    };
    const address = (): string => clientAddress(exchange, trustedProxies);
    const given = { head: exchange, body: exchange.body, address, urls, onGenuine };
    return receiveWebhook(source, given, { context, journal, held: this.#held, maxBytes });
  }

  #unknown(): TidegateError {
    // Providers take a 404 for good.
    if (this.#options.context.currentRules.rules.version === 0) {
      return new TidegateError("upstream_unavailable", "the gateway has no rules yet", {
        retryAfterMs: noRulesRetryMs,
      });
    }
    return new TidegateError("unknown_source", "the rules have no such source");
  }
}

function nameIn(request: RequestLine): string | undefined {
  return request.method === "POST" || request.method === "GET" ? sourceIn(request) : undefined;
}

function challenge({ name, rule, verifyToken }: Source, request: Exchange): HookAnswer {
  if (rule.verifyToken === undefined) throw new TidegateError("not_found", "this source answers POST only");
  if (verifyToken === undefined) throw missingSecret(name);
  const text = metaChallenge(envelopeOf(request).query, verifyToken);
  if (text !== undefined) return challengeAnswer(text);
  throw new TidegateError("forbidden", "the verify token is wrong, or the query is not that of a challenge");
}
