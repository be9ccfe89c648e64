/** One webhook, from its head to its answer: bounded, verified, read, split and stored, in this order. */
import type { IncomingMessage } from "node:http";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { JournaledQueues } from "../journal/journaled-queues.ts";
import type { GatewayContext } from "../node/context.ts";
import type { StorableEvent } from "../requests/store-event.ts";
import { challengeAnswer, type HookAnswer } from "./answer.ts";
import { askService } from "./ask-service.ts";
import { contentOf } from "./content.ts";
import { envelopeOf } from "./envelope.ts";
import type { HeldBodies } from "./held-bodies.ts";
import { eventsOf } from "./parts.ts";
import { assertCheckable, assertGenuine, type Source } from "./sources.ts";
import { storeWebhook } from "./store-webhook.ts";
import { slackChallenge } from "./verify/slack.ts";

export interface WebhookReceiver {
  readonly context: GatewayContext;
  /** Of the node; undefined: it has none. */
  readonly journal: JournaledQueues | undefined;
  readonly held: HeldBodies;
  readonly maxBytes: number;
}

export interface WebhookRequest {
  readonly raw: IncomingMessage;
  readonly address: () => string;
  /** {@link SignedRequest.urls} */
  readonly urls: () => readonly string[];
  /** Called once the signature is checked. */
  readonly onGenuine: () => void;
}

/** @throws TidegateError with the code of the answer; nothing is stored then, except where storage failed. */
export async function receiveWebhook(
  source: Source,
  request: WebhookRequest,
  { context, journal, held, maxBytes }: WebhookReceiver,
): Promise<HookAnswer> {
  const { raw, address, urls } = request;
  assertCheckable(source);
  const encoding = raw.headers["content-encoding"] ?? "identity";
  if (encoding.toLowerCase() !== "identity") {
    throw new TidegateError("invalid_request", "the body is compressed: send it without a content-encoding");
  }
  const { body, release } = await held.read(raw, { limitBytes: maxBytes, address });
  try {
    assertGenuine(source, { headers: raw.headers, body, urls, nowSeconds: Date.now() / 1_000 });
    request.onGenuine();
    const content = contentOf(raw.headers, body, source);
    if (source.rule.verify === "slack" && content.kind === "json") {
      const challenge = slackChallenge(content.json);
      if (challenge !== undefined) return challengeAnswer(challenge);
    }
    const events = eventsOf({ source, envelope: envelopeOf(raw), body, content });
    const [event] = events;
    const reply = source.route.mode === "call" && event ? await replyTo(source, event, context) : undefined;
    return reply ?? { outcome: await storeWebhook(source, events, { context, journal }), status: source.answer };
  } finally {
    release();
  }
}

/** @returns undefined: the service has failed, and the webhook is to be stored */
async function replyTo(source: Source, event: StorableEvent, context: GatewayContext): Promise<HookAnswer | undefined> {
  try {
    return await askService(event, context);
  } catch (error) {
    const isUnavailable = error instanceof TidegateError && error.code === "upstream_unavailable";
    if (isUnavailable && source.rule.fallback !== undefined) return undefined;
    throw error;
  }
}
