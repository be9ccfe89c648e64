import type { CallOutcome } from "../../shared/http/answers.ts";
import { TidegateError } from "../../shared/errors.ts";
import { isTooDeep, maxJsonDepth } from "../../shared/json.ts";
import { eventId } from "../../shared/http/cloudevents.ts";
import { newTraceparent } from "../../shared/http/traceparent.ts";
import { type CallOptions, callOptionsValidator } from "../../shared/protocol/client-messages.ts";
import { isApplicationEvent } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { serviceOf } from "../../shared/rollouts/route-target.ts";
import { describeFindings } from "../../shared/schema-errors.ts";
import type { GatewayContext } from "../context.ts";
import type { Session } from "../sessions/session.ts";

/** An application's event: goes to the service of its route, whose answer is the ack. */
export async function call(
  session: Session,
  event: string,
  args: readonly unknown[],
  context: GatewayContext,
): Promise<CallOutcome> {
  if (!isApplicationEvent(event)) throw new TidegateError("invalid_request", `"${event}" is not a name for an event`);
  const { data, options } = readArguments(session, args);
  const { rules } = context.currentRules;
  const route = rules.route(event);
  const service = route && rules.service(serviceOf(route, session.identity));
  if (!service) throw new TidegateError("no_route", `no route for "${event}"`);
  const text = JSON.stringify(data);
  const bytes = Buffer.byteLength(text);
  if (bytes > maxPayloadBytes * 2) session.cut();
  if (bytes > maxPayloadBytes) {
    throw new TidegateError("payload_too_large", `the data is larger than ${maxPayloadBytes} bytes of JSON`);
  }
  return context.relay.ask(
    {
      kind: "call",
      event,
      eventId: eventId(session.user, options.id),
      identity: session.identity,
      traceparent: newTraceparent(),
      timeoutMs: Math.min(options.timeoutMs ?? service.timeoutMs, service.timeoutMs),
    },
    text,
  );
}

function readArguments(session: Session, args: readonly unknown[]): { data: unknown; options: CallOptions } {
  if (args.length > 2) throw new TidegateError("invalid_request", "an event has data and options, no more arguments");
  if (session.binarySeen && args.some((arg) => containsBinary(arg))) {
    throw new TidegateError("invalid_request", "binary data is not supported: send text or JSON");
  }
  const [data = null, options] = args;
  if (isTooDeep(data))
    throw new TidegateError("invalid_request", `the data is nested deeper than ${maxJsonDepth} levels`);
  if (options === undefined || options === null) return { data, options: {} };
  if (!callOptionsValidator.Check(options)) {
    const findings = describeFindings(callOptionsValidator.Errors(options)).join("; ");
    throw new TidegateError("invalid_request", `the options are not valid: ${findings}`);
  }
  return { data, options };
}

/** Not deeper than data may be: what is deeper is refused for that. */
function containsBinary(value: unknown, depthLeft = maxJsonDepth): boolean {
  if (typeof value !== "object" || value === null || depthLeft === 0) return false;
  if (Buffer.isBuffer(value)) return true;
  return Object.values(value).some((item) => containsBinary(item, depthLeft - 1));
}
