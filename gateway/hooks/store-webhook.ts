/** Stores all parts of a webhook. The only place that learns that storage is out of reach, or full. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { GatewayContext } from "../node/context.ts";
import { fullRetryMs } from "../requests/enqueue.ts";
import { servicesOf, type StorableEvent, storeEvent } from "../requests/store-event.ts";
import type { Source } from "./sources.ts";

/**
 * Resolves once everything is stored. Events of one key keep their order.
 * @returns `duplicate`: all of them were stored before. `dropped`: there is no room, and the class drops items then.
 * @throws TidegateError `rate_limited`, `broker_unavailable`; a part of the events may be stored then
 */
export async function storeWebhook(
  source: Source,
  events: readonly StorableEvent[],
  context: GatewayContext,
): Promise<"accepted" | "duplicate" | "dropped"> {
  if (events.length === 0) return "accepted";
  const full = await fullQuota(source, events, context);
  if (full !== undefined) {
    if (context.currentRules.rules.classes.get(source.class)?.whenFull === "drop") return "dropped";
    const message = `too many items of this ${full} are waiting`;
    throw new TidegateError("rate_limited", message, { retryAfterMs: fullRetryMs });
  }
  const outcomes = await Promise.all(events.map(async (event) => storeEvent(event, context)));
  return outcomes.every((outcome) => outcome === "duplicate") ? "duplicate" : "accepted";
}

async function fullQuota(
  source: Source,
  events: readonly StorableEvent[],
  { quotas }: GatewayContext,
): Promise<"source" | "tenant" | undefined> {
  let items = 0;
  const ofTenants = new Map<string, number>();
  for (const { identity, route } of events) {
    const { tenant = "" } = identity;
    const more = servicesOf(route, identity).length;
    items += more;
    ofTenants.set(tenant, (ofTenants.get(tenant) ?? 0) + more);
  }
  const [sourceHasRoom, ...tenantsHaveRoom] = await Promise.all([
    quotas.source.allows(source.name, items),
    ...[...ofTenants].map(async ([tenant, count]) => quotas.tenant.allows(tenant, count)),
  ]);
  if (!sourceHasRoom) return "source";
  return tenantsHaveRoom.includes(false) ? "tenant" : undefined;
}
