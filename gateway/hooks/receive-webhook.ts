/** One webhook, from its head to its answer: bounded, verified, read, split and stored, in this order. */
import type { Exchange, RequestHead } from "../../shared/http/exchange.ts";
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
  readonly head: RequestHead;
  readonly body: Exchange["body"];
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
  const { head, address, urls } = request;
  assertCheckable(source);
  assertPlain(head);
  const { body, release } = Buffer.isBuffer(request.body)
    ? held.hold(request.body, maxBytes)
    : await held.read(request.body, { limitBytes: maxBytes, address });
  try {
    assertGenuine(source, { headers: head.headers, body, urls, nowSeconds: Date.now() / 1_000 });
    request.onGenuine();
    const content = contentOf(head.headers, body, source);
    if (source.rule.verify === "slack" && content.kind === "json") {
      const challenge = slackChallenge(content.json);
      if (challenge !== undefined) return challengeAnswer(challenge);
    }
    const events = eventsOf({ source, envelope: envelopeOf(head), body, content });
    const [event] = events;
    const reply = source.route.mode === "call" && event ? await replyTo(source, event, context) : undefined;
    return reply ?? { ...(await storeWebhook(source, events, { context, journal })), status: source.answer };
  } finally {
    release();
  }
}

/** @throws TidegateError `invalid_request` for a body that is compressed, by its sender or for the way */
function assertPlain({ headers }: RequestHead): void {
  const { "content-encoding": encoding = "", "transfer-encoding": transfer = "chunked" } = headers;
  if (["", "identity"].includes(encoding.toLowerCase()) && transfer.toLowerCase() === "chunked") return;
  const remedy = "send it without a content-encoding, and with no transfer-encoding but chunked";
  throw new TidegateError("invalid_request", `the body is compressed: ${remedy}`);
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
