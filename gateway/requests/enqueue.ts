/** An event on an `enqueue` route: stored in keyed queues, whether or not the private API and the service are there. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import type { CallOptions } from "../../shared/protocol/client-messages.ts";
import { orderingKey } from "../../shared/queues/ordering-key.ts";
import { defaultClass, type RouteRule } from "../../shared/rules/schema.ts";
import { eventId, socketSource } from "../../shared/services/cloudevents.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { servicesOf, storeEvent } from "./store-event.ts";

/** The ack of a queued event. `queued: false`: the queues of the tenant are full, and the class of the route drops items then. */
export interface QueuedAck {
  ok: true;
  queued: boolean;
  /** `ce-id` of the request to the route's service. */
  id: string;
}

/** Until dispatchers may have worked off something. */
export const fullRetryMs = 5_000;

/** @throws TidegateError `invalid_request` for a key that is not there, `rate_limited`, `broker_unavailable` */
export async function enqueue(
  session: Session,
  { event, data, options, route }: { event: string; data: JsonText; options: CallOptions; route: RouteRule },
  context: GatewayContext,
): Promise<QueuedAck> {
  const { identity } = session;
  const key = route.key === undefined ? identity.user : orderingKey(data.text, route.key);
  const id = eventId(session.identityKey, options.id);
  const className = route.class ?? defaultClass;
  if (!(await context.quotas.tenant.allows(identity.tenant ?? "", servicesOf(route, identity).length))) {
    const drops = context.currentRules.rules.classes.get(className)?.whenFull === "drop";
    context.metrics.queued.inc({ outcome: drops ? "dropped" : "refused" });
    if (drops) return { ok: true, queued: false, id };
    throw new TidegateError("rate_limited", "too many items of this tenant are waiting", { retryAfterMs: fullRetryMs });
  }
  const dedupes = options.id !== undefined;
  const stored = { identity, event, route, key, class: className, id, dedupes, source: socketSource, data: data.text };
  context.metrics.queued.inc({ outcome: await storeEvent(stored, context) });
  return { ok: true, queued: true, id };
}
