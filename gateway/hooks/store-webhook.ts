/** Stores all parts of a webhook: in the queues, or in this node's journal. The only place that learns that storage is out of reach, or full. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import { allSettled } from "../../shared/runtime/timing.ts";
import type { JournaledQueues } from "../journal/journaled-queues.ts";
import type { GatewayContext } from "../node/context.ts";
import { fullRetryMs } from "../requests/enqueue.ts";
import { itemsOf, servicesOf, type StorableEvent, storeEvent, wasStored } from "../requests/store-event.ts";
import type { Source } from "./sources.ts";

/**
 * Resolves once everything is stored. Events of one key keep their order.
 * @param journal undefined: there is none
 * @returns `duplicate`: all of them were stored before. `dropped`: there is no room, and the class drops items then. `journaled`:
 *   on this node's disk, for as long as storage is out of reach
 * @throws TidegateError `rate_limited`, `broker_unavailable`; a part of the events may be stored then
 */
export async function storeWebhook(
  source: Source,
  events: readonly StorableEvent[],
  { context, journal }: { context: GatewayContext; journal: JournaledQueues | undefined },
): Promise<"accepted" | "duplicate" | "dropped" | "journaled"> {
  if (events.length === 0) return "accepted";
  const admit = async (): Promise<"dropped" | "duplicate" | undefined> => admitOrDrop(source, events, context);
  const enqueue = async (): Promise<"accepted" | "duplicate"> => {
    const outcomes = await allSettled(events.map(async (event) => storeEvent(event, context)));
    return outcomes.every((outcome) => outcome === "duplicate") ? "duplicate" : "accepted";
  };
  if (!source.rule.journal || !journal) return (await admit()) ?? enqueue();
  return journal.store({ items: () => events.flatMap(itemsOf), admit, enqueue });
}

/** @throws TidegateError `rate_limited` where a quota is full, unless the events are stored already or the class drops items then */
async function admitOrDrop(
  source: Source,
  events: readonly StorableEvent[],
  context: GatewayContext,
): Promise<"dropped" | "duplicate" | undefined> {
  const full = await fullQuota(source, events, context);
  if (full === undefined) return undefined;
  const stored = await allSettled(events.map(async (event) => wasStored(event, context)));
  if (stored.every(Boolean)) return "duplicate";
  if (context.currentRules.rules.classes.get(source.class)?.whenFull === "drop") return "dropped";
  const message = `too many items of this ${full} are waiting`;
  throw new TidegateError("rate_limited", message, { retryAfterMs: fullRetryMs });
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
