import type { CallOutcome } from "../../shared/services/answers.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { parseJson } from "../../shared/json/json.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import { type CallOptions, callOptionsValidator } from "../../shared/protocol/client-messages.ts";
import { isApplicationEvent } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import type { GatewayContext } from "../node/context.ts";
import { enqueue, type QueuedEvent } from "./enqueue.ts";
import { findingsOf } from "./findings.ts";
import type { Session } from "../sessions/session.ts";
import { assertSound, type ClientEvent } from "./client-event.ts";

/** Handles an application's event by its route: calls the service, whose answer is the ack, or stores the event in a queue. */
export async function call(
  session: Session,
  clientEvent: ClientEvent,
  context: GatewayContext,
): Promise<CallOutcome | QueuedEvent> {
  const { name: event } = clientEvent;
  if (!isApplicationEvent(event))
    throw new TidegateError("invalid_request", `"${excerpt(event)}" is not a valid event name`);
  const { data, options } = readArguments(clientEvent);
  const { rules } = context.currentRules;
  const route = rules.route(event);
  const service = route && rules.service(serviceOf(route, session.identity));
  if (!service) throw noRoute(event, rules.version);
  if (data.bytes > maxPayloadBytes) {
    throw new TidegateError("payload_too_large", `the data is larger than ${maxPayloadBytes} bytes of JSON`);
  }
  if (route.mode === "enqueue") return enqueue(session, { event, data, options, route }, context);
  return context.relay.ask(
    {
      kind: "call",
      event,
      eventId: eventId(session.identityKey, options.id),
      identity: session.identity,
      traceparent: newTraceparent(options.traceparent),
      timeoutMs: Math.min(options.timeoutMs ?? service.timeoutMs, service.timeoutMs),
    },
    { service: service.name, data: data.text, dataBytes: data.bytes },
  );
}

function noRoute(event: string, rulesVersion: number): TidegateError {
  if (rulesVersion > 0) return new TidegateError("no_route", `no route for "${event}"`);
  return new TidegateError("no_route", "this node knows no rules yet", { retryable: true });
}

const noData: JsonText = { text: "null", bytes: 4 };

function readArguments(event: ClientEvent): { data: JsonText; options: CallOptions } {
  assertSound(event);
  const { args } = event;
  if (args.length > 2) throw new TidegateError("invalid_request", "an event has data and options, no more arguments");
  const [data = noData, second] = args;
  const options = second && parseJson(second.text);
  if (options === undefined || options === null) return { data, options: {} };
  if (!callOptionsValidator.Check(options)) {
    const findings = findingsOf(callOptionsValidator, options);
    throw new TidegateError("invalid_request", `the options are not valid: ${findings}`);
  }
  return { data, options };
}
