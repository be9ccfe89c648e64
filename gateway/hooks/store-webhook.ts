/** Stores all parts of a webhook: in the queues, or in this node's journal. The only place that learns that storage is out of reach, or full. */
import type { WaitingQuota } from "../../shared/queues/quota.ts";
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
  if (source.rule.journal && journal) {
    return journal.store({
      items: () => events.flatMap((event) => itemsOf(event, context.sessionStore.now())),
      admit: async () => refusal(await fullQuota(source, events, context), { source, events, context }),
      enqueue: async () => enqueue(events, context),
    });
  }
  const full = fullQuota(source, events, context);
  const refused = full && (await refusal(await full, { source, events, context }));
  return refused ?? (await enqueue(events, context));
}

async function enqueue(events: readonly StorableEvent[], context: GatewayContext): Promise<"accepted" | "duplicate"> {
  const [first] = events;
  if (first && events.length === 1)
    return (await storeEvent(first, context)).kind === "duplicate" ? "duplicate" : "accepted";
  const outcomes = await allSettled(events.map(async (event) => storeEvent(event, context)));
  return outcomes.every(({ kind }) => kind === "duplicate") ? "duplicate" : "accepted";
}

type Quota = "source" | "tenant";

/**
 * @returns undefined: there is room
 * @throws TidegateError `rate_limited` where a quota is full, unless the events are stored already or the class drops items then
 */
async function refusal(
  full: Quota | undefined,
  { source, events, context }: { source: Source; events: readonly StorableEvent[]; context: GatewayContext },
): Promise<"dropped" | "duplicate" | undefined> {
  if (full === undefined) return undefined;
  const stored = await allSettled(events.map(async (event) => wasStored(event, context)));
  if (stored.every(Boolean)) return "duplicate";
  if (context.currentRules.rules.classes.get(source.class)?.whenFull === "drop") return "dropped";
  const message = `too many items of this ${full} are waiting`;
  throw new TidegateError("rate_limited", message, { retryAfterMs: fullRetryMs });
}

/** The quota that has no room; undefined: there is room. A promise only where the store has to be asked, which is rare. */
function fullQuota(
  source: Source,
  events: readonly StorableEvent[],
  { quotas }: GatewayContext,
): Quota | undefined | Promise<Quota | undefined> {
  let items = 0;
  const ofTenants = new Map<string, number>();
  for (const { identity, route } of events) {
    const { tenant = "" } = identity;
    const more = servicesOf(route, identity).length;
    items += more;
    ofTenants.set(tenant, (ofTenants.get(tenant) ?? 0) + more);
  }
  const rooms: (boolean | Promise<boolean>)[] = [hasRoom(quotas.source, source.name, items)];
  for (const [tenant, count] of ofTenants) rooms.push(hasRoom(quotas.tenant, tenant, count));
  if (rooms.every((room) => typeof room === "boolean")) return fullOf(rooms);
  return Promise.all(rooms.map(async (room) => room)).then(fullOf);
}

function hasRoom(quota: WaitingQuota, owner: string, items: number): boolean | Promise<boolean> {
  return quota.allowsAtOnce(owner, items) ?? quota.allows(owner, items);
}

function fullOf([sourceHasRoom, ...tenantsHaveRoom]: readonly boolean[]): Quota | undefined {
  if (!sourceHasRoom) return "source";
  return tenantsHaveRoom.includes(false) ? "tenant" : undefined;
}
