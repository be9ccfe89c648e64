/** A webhook whose route has mode `call`: the service's answer becomes the provider's. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import { readWebhookReply } from "../../shared/protocol/relay.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { GatewayContext } from "../node/context.ts";
import type { StorableEvent } from "../requests/store-event.ts";
import type { HookAnswer } from "./answer.ts";

/** Where the service names no time. */
const failedRetryMs = 5_000;

/** @throws TidegateError `payload_too_large`; `invalid_request` for bytes that are not UTF-8; 503 where the service gives no answer that the provider can get */
export async function askService(given: StorableEvent, context: GatewayContext): Promise<HookAnswer> {
  const { identity, event, route, id, source, data, contentType } = given;
  if (given.encoding !== undefined) {
    throw new TidegateError("invalid_request", "a route with mode: call takes a body in UTF-8");
  }
  const text = JSON.stringify(data);
  const dataBytes = Buffer.byteLength(text);
  // As a string in JSON it takes twice as much at most, but for control characters.
  if (Buffer.byteLength(data) > maxPayloadBytes || dataBytes > 2 * maxPayloadBytes) {
    const message = `a route with mode: call takes a body of at most ${maxPayloadBytes} bytes`;
    throw new TidegateError("payload_too_large", message);
  }
  const service = context.currentRules.rules.service(serviceOf(route, identity));
  if (!service) throw unanswered("the service of the route is gone");
  const traceparent = newTraceparent();
  const { timeoutMs } = service;
  const type = contentType !== undefined && { contentType };
  const outcome = await context.relay.ask(
    { kind: "webhook", event, eventId: id, source, identity, traceparent, timeoutMs, ...type },
    { service: service.name, data: text, dataBytes },
  );
  if (!outcome.ok) throw unanswered(outcome.error.message, outcome.error.retryAfterMs);
  const reply = readWebhookReply(outcome.data);
  if (!reply) throw unanswered("the answer of the private API cannot be read");
  const { status, body, contentType: replyType } = reply;
  return {
    ...{ outcome: "answered", status, text: body },
    ...(replyType !== undefined && { contentType: replyType }),
  };
}

function unanswered(message: string, retryAfterMs = failedRetryMs): TidegateError {
  return new TidegateError("upstream_unavailable", message, { retryAfterMs });
}
