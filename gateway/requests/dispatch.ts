import type { CallOutcome } from "../../shared/services/answers.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { parseJson } from "../../shared/json/json.ts";
import { clientRequests } from "../../shared/protocol/client-messages.ts";
import { isRequestCode, type WireError } from "../../shared/protocol/codes.ts";
import { reservedEventPrefix } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { ClientFlow } from "../sessions/client-flow.ts";
import type { GatewayContext } from "../node/context.ts";
import { assertSound, type ClientEvent } from "./client-event.ts";
import { ackFrame, ackFrameOfText, callAckFrame, queuedAckFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";
import { call } from "./call.ts";
import type { QueuedEvent } from "./enqueue.ts";
import { findingsOf } from "./findings.ts";
import { history } from "./history.ts";
import { refresh, SessionRefused } from "./refresh.ts";
import { maxOpenRequests, prices, requestBudget, unknownRequestPrice } from "./prices.ts";
import { ackText, type Reply } from "./reply.ts";
import { subscribe } from "./subscribe.ts";
import { unsubscribe } from "./unsubscribe.ts";
import { presence } from "./presence.ts";

type RequestName = keyof typeof clientRequests;

/** The requests that the gateway answers itself. Each gets its message after the schema check. */
const requests: Record<RequestName, (session: Session, request: never, context: GatewayContext) => Promise<Reply>> = {
  "sync:subscribe": subscribe,
  "sync:unsubscribe": unsubscribe,
  "sync:history": history,
  "sync:presence": presence,
  "sync:refresh": refresh,
};

/** Answers one event from a client, with an ack where the client asked for one. Never rejects for what a client sends. */
export async function dispatch(session: Session, event: ClientEvent, context: GatewayContext): Promise<void> {
  // Socket.IO emits events that arrived together with the end of the connection.
  if (session.disposed) return;
  const { name, args, ackId } = event;
  if ((args[0]?.bytes ?? 0) > 2 * maxPayloadBytes) {
    context.metrics.floods.inc({ cause: "data" });
    return session.cut();
  }
  const isRequest = name.startsWith(reservedEventPrefix);
  const { events, requests } = (session.flows ??= newFlows(context));
  const flow = isRequest ? requests : events;
  const passage = flow.pass(performance.now(), isRequest ? priceOf(name) : 1);
  if (passage.kind === "flooding") {
    context.metrics.floods.inc({ cause: "messages" });
    return session.cut();
  }
  if (passage.kind === "refused") {
    const message = isRequest ? "too many requests" : "too many messages";
    const { retryAfterMs } = passage;
    const error = new TidegateError("rate_limited", message, { retryAfterMs }).toWire();
    if (ackId !== undefined) session.outbox.send(ackFrame(ackId, { ok: false, error }));
    context.metrics.limited.inc({ kind: isRequest ? "request" : "event" });
    return;
  }
  // The client may not have read yet that it was disconnected.
  if (session.endedBy) return flow.answered();
  const answered = session.requests.begin();
  let surcharge = 0;
  if (isRequest) surcharge = await answerRequest(session, event, context);
  else await answerCall(session, event, context);
  flow.answered(surcharge);
  answered();
}

function priceOf(name: string): number {
  return isKnown(name) ? prices[name] : unknownRequestPrice;
}

function newFlows({ messagesPerSecond }: GatewayContext): NonNullable<Session["flows"]> {
  const now = performance.now();
  const rate = { capacity: 2 * messagesPerSecond, perSecond: messagesPerSecond };
  return { events: new ClientFlow(rate, now), requests: new ClientFlow(requestBudget, now, maxOpenRequests) };
}

/** @returns its cost beyond its price. */
async function answerRequest(session: Session, event: ClientEvent, context: GatewayContext): Promise<number> {
  const { name, ackId } = event;
  const known = isKnown(name);
  try {
    if (!known) throw new TidegateError("unknown_event", `"${excerpt(name)}" is not a request of this protocol`);
    const reply = await handle(name, session, event, context);
    // Serialized even without an ack: its size is what the read cost.
    const text = ackText(reply);
    if (ackId !== undefined) session.outbox.send(ackFrameOfText(ackId, text));
    reply.afterAck?.(text.length);
    context.metrics.requests.inc({ request: name, outcome: "ok" });
    return reply.surcharge ?? 0;
  } catch (error) {
    const wire = toWireError(error, context);
    if (ackId !== undefined) session.outbox.send(ackFrame(ackId, { ok: false, error: wire }));
    context.metrics.requests.inc({ request: known ? name : "unknown", outcome: requestOutcome(wire.code) });
    if (error instanceof SessionRefused) session.end("revoked", error.message, { reconnect: false });
    return 0;
  }
}

async function answerCall(session: Session, event: ClientEvent, context: GatewayContext): Promise<void> {
  const { ackId } = event;
  const stopTimer = context.metrics.callSeconds.startTimer();
  let result: CallOutcome | QueuedEvent;
  try {
    result = await call(session, event, context);
  } catch (error) {
    result = { ok: false, error: toWireError(error, context) };
  }
  if (ackId !== undefined)
    session.outbox.send("queued" in result ? queuedAckFrame(ackId, result) : callAckFrame(ackId, result));
  stopTimer();
  context.metrics.calls.inc({ outcome: result.ok ? "ok" : requestOutcome(result.error.code) });
}

function isKnown(event: string): event is RequestName {
  return Object.hasOwn(requests, event);
}

async function handle(
  name: RequestName,
  session: Session,
  event: ClientEvent,
  context: GatewayContext,
): Promise<Reply> {
  assertSound(event);
  const { args } = event;
  const request = args[0] && parseJson(args[0].text);
  const validator = clientRequests[name];
  if (args.length !== 1 || !validator.Check(request)) {
    const findings = args.length === 1 ? findingsOf(validator, request) : "one object is expected";
    throw new TidegateError("invalid_request", `${name}: ${findings}`);
  }
  return requests[name](session, request as never, context);
}

/** Anything but an expected failure is a bug: it is logged, and the client may retry. */
function toWireError(error: unknown, context: GatewayContext): WireError {
  if (error instanceof TidegateError) return error.toWire();
  context.errors.report("frame", error);
  return new TidegateError("upstream_failed", "the gateway failed to answer this request").toWire();
}

/** Services answer with any number of codes of their own. As a metric label those are all `upstream_rejected`. */
function requestOutcome(code: string): string {
  return isRequestCode(code) ? code : "upstream_rejected";
}
