/** An event on an `enqueue` route: stored in keyed queues, whether or not the private API and the service are there. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import type { CallOptions } from "../../shared/protocol/client-messages.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { orderingKey } from "../../shared/queues/ordering-key.ts";
import { defaultClass, type RouteRule } from "../../shared/rules/document.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import { eventId, socketSource } from "../../shared/services/cloudevents.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";

/** The ack of a queued event. `queued: false`: the queues of the tenant are full, and the class of the route drops items then. */
export interface QueuedAck {
  ok: true;
  queued: boolean;
  /** `ce-id` of the request to the route's service. */
  id: string;
}

/** Until dispatchers may have worked off something. */
const fullRetryMs = 5_000;

/** @throws TidegateError `invalid_request` for a key that is not there, `rate_limited`, `broker_unavailable` */
export async function enqueue(
  session: Session,
  { event, data, options, route }: { event: string; data: JsonText; options: CallOptions; route: RouteRule },
  context: GatewayContext,
): Promise<QueuedAck> {
  const { identity } = session;
  const { tenant = "" } = identity;
  const key = route.key === undefined ? identity.user : orderingKey(data.text, route.key);
  const id = eventId(session.identityKey, options.id);
  const className = route.class ?? defaultClass;
  const services = [serviceOf(route, identity), ...(route.also ?? [])];
  if (!(await context.quota.allows(tenant, services.length))) {
    const drops = context.currentRules.rules.classes.get(className)?.whenFull === "drop";
    context.metrics.queued.inc({ outcome: drops ? "dropped" : "refused" });
    if (drops) return { ok: true, queued: false, id };
    throw new TidegateError("rate_limited", "too many items of this tenant are waiting", { retryAfterMs: fullRetryMs });
  }
  const traceparent = newTraceparent();
  const path = route.path.replaceAll("{event}", encodeURIComponent(event));
  const stored = services.map(async (service, index) => {
    // Each service of `also` knows the event by an id of its own.
    const ownId = index === 0 ? id : eventId(session.identityKey, `${id} ${service}`);
    const head = formatHead({ ...identity, id: ownId, event, source: socketSource, path, at: Date.now(), traceparent });
    const dedupeId = options.id === undefined ? {} : { dedupeId: ownId };
    return context.queues.enqueue({
      queue: { service, tenant, key },
      class: className,
      head,
      data: data.text,
      ...dedupeId,
    });
  });
  const outcomes = await Promise.all(stored);
  const outcome = outcomes[0]?.kind === "duplicate" ? "duplicate" : "stored";
  context.metrics.queued.inc({ outcome });
  return { ok: true, queued: true, id };
}
