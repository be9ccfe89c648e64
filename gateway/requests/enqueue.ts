/** An event on an `enqueue` route: stored in keyed queues, whether or not the private API and the service are there. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import type { QueuedAck } from "../../shared/protocol/wire.ts";
import type { CallOptions } from "../../shared/protocol/client-messages.ts";
import { orderingKey } from "../../shared/queues/ordering-key.ts";
import { defaultClass, type RouteRule } from "../../shared/rules/schema.ts";
import { eventId, socketSource } from "../../shared/services/cloudevents.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { servicesOf, type StorableEvent, storeEvent, wasStored } from "./store-event.ts";

export type QueuedEvent = { ok: true } & QueuedAck;

/** Until dispatchers may have worked off something. */
export const fullRetryMs = 5_000;

/** @throws TidegateError `invalid_request` for a key that is not there, `rate_limited`, `broker_unavailable` */
export async function enqueue(
  session: Session,
  { event, data, options, route }: { event: string; data: JsonText; options: CallOptions; route: RouteRule },
  context: GatewayContext,
): Promise<QueuedEvent> {
  const { identity } = session;
  const key = route.key === undefined ? identity.user : orderingKey(data.text, route.key);
  const id = eventId(session.identityKey, options.id);
  const className = route.class ?? defaultClass;
  const given: StorableEvent = {
    identity,
    event,
    route,
    key,
    class: className,
    id,
    dedupes: options.id === undefined ? "nowhere" : "in its queue",
    source: socketSource,
    data: data.text,
    traceparent: newTraceparent(options.traceparent),
  };
  const { tenant: quota } = context.quotas;
  const tenant = identity.tenant ?? "";
  const items = servicesOf(route, identity).length;
  if (quota.allowsAtOnce(tenant, items) ?? (await quota.allows(tenant, items))) {
    const { kind } = await storeEvent(given, context);
    context.metrics.queued.inc({ outcome: kind });
    return { ok: true, queued: true, id };
  }
  if (await wasStored(given, context)) {
    context.metrics.queued.inc({ outcome: "duplicate" });
    return { ok: true, queued: true, id };
  }
  const drops = context.currentRules.rules.classes.get(className)?.whenFull === "drop";
  context.metrics.queued.inc({ outcome: drops ? "dropped" : "refused" });
  if (drops) return { ok: true, queued: false, id };
  throw new TidegateError("rate_limited", "too many items of this tenant are waiting", { retryAfterMs: fullRetryMs });
}
