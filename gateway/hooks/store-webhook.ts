/** Stores all parts of a webhook: in the queues, or in this node's journal. The only place that learns that storage is out of reach, or full. */
import type { WaitingQuota } from "../../shared/queues/quota.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { allSettled } from "../../shared/runtime/timing.ts";
import type { JournaledQueues } from "../journal/journaled-queues.ts";
import type { GatewayContext } from "../node/context.ts";
import { fullRetryMs } from "../requests/enqueue.ts";
import { itemsOf, servicesOf, type StorableEvent, storeEvent, wasStored } from "../requests/store-event.ts";
import type { Source } from "./sources.ts";

export interface StoredWebhook {
  /**
   * `duplicate`: all parts were stored before. `dropped`: there is no room for any part, and the class drops items then. `journaled`: on
   * this node's disk, for as long as storage is out of reach.
   */
  readonly outcome: "accepted" | "duplicate" | "dropped" | "journaled";
  /** Parts for which there is no room, where the class drops items then. */
  readonly droppedParts: number;
}

/**
 * Resolves once everything is stored. Events of one key keep their order.
 * @param journal undefined: there is none
 * @throws TidegateError `rate_limited`, `payload_too_large`, `broker_unavailable`; a part of the events may be stored then
 */
export async function storeWebhook(
  source: Source,
  events: readonly StorableEvent[],
  { context, journal }: { context: GatewayContext; journal: JournaledQueues | undefined },
): Promise<StoredWebhook> {
  if (events.length === 0) return { outcome: "accepted", droppedParts: 0 };
  const owners = ownersOf(source, events, context);
  let admitted: Admitted = { events, droppedParts: 0 };
  if (source.rule.journal && journal) {
    const outcome = await journal.store({
      items: () => admitted.events.flatMap((event) => itemsOf(event, context.sessionStore.now())),
      admit: async () => {
        const full = await fullOf(owners);
        if (full) admitted = await admit(owners, full, { source, events, context });
        return endOf(admitted);
      },
      enqueue: async () => enqueue(admitted.events, context),
    });
    return { outcome, droppedParts: admitted.droppedParts };
  }
  const asked = fullOf(owners);
  const full = asked && (await asked);
  if (full) admitted = await admit(owners, full, { source, events, context });
  const outcome = endOf(admitted) ?? (await enqueue(admitted.events, context));
  return { outcome, droppedParts: admitted.droppedParts };
}

async function enqueue(events: readonly StorableEvent[], context: GatewayContext): Promise<"accepted" | "duplicate"> {
  const [first] = events;
  if (first && events.length === 1)
    return (await storeEvent(first, context)).kind === "duplicate" ? "duplicate" : "accepted";
  const outcomes = await allSettled(events.map(async (event) => storeEvent(event, context)));
  return outcomes.every(({ kind }) => kind === "duplicate") ? "duplicate" : "accepted";
}

/** Whose items a quota counts: the source, or a tenant. */
interface Owner {
  readonly kind: "source" | "tenant";
  readonly name: string;
  readonly quota: WaitingQuota;
  /** That the webhook adds. */
  items: number;
}

/** The source comes first. */
function ownersOf(source: Source, events: readonly StorableEvent[], { quotas }: GatewayContext): readonly Owner[] {
  const ofSource: Owner = { kind: "source", name: source.name, quota: quotas.source, items: 0 };
  const tenants = new Map<string, Owner>();
  for (const event of events) {
    const name = tenantOf(event);
    const tenant: Owner = tenants.get(name) ?? { kind: "tenant", name, quota: quotas.tenant, items: 0 };
    tenants.set(name, tenant);
    const more = itemCount(event);
    tenant.items += more;
    ofSource.items += more;
  }
  return [ofSource, ...tenants.values()];
}

/** The first one without room for all of its items. A promise only where the store has to be asked, which is rare. */
function fullOf(owners: readonly Owner[]): Owner | undefined | Promise<Owner | undefined> {
  const rooms = owners.map(({ quota, name, items }) => quota.allowsAtOnce(name, items) ?? quota.allows(name, items));
  const firstOf = (answers: readonly boolean[]): Owner | undefined => owners.find((_, index) => !answers[index]);
  if (rooms.every((room) => typeof room === "boolean")) return firstOf(rooms);
  return Promise.all(rooms.map(async (room) => room)).then(firstOf);
}

interface Admitted {
  readonly events: readonly StorableEvent[];
  readonly droppedParts: number;
}

/**
 * @param full has no room for all of its items
 * @returns the events that are not stored yet and have room, if the class drops the others
 * @throws TidegateError `rate_limited`, `payload_too_large` where there can never be enough room
 */
async function admit(
  owners: readonly Owner[],
  full: Owner,
  { source, events, context }: { source: Source; events: readonly StorableEvent[]; context: GatewayContext },
): Promise<Admitted> {
  const stored = await allSettled(events.map(async (event) => wasStored(event, context)));
  const fresh = events.filter((_, index) => !stored[index]);
  if (fresh.length === 0) return { events: [], droppedParts: 0 };
  if (context.currentRules.rules.classes.get(source.class)?.whenFull !== "drop") throw refusal(owners, full);
  const admitted = events.length === 1 ? [] : await withRoom(fresh, owners);
  return { events: admitted, droppedParts: fresh.length - admitted.length };
}

/** The events, in order, that neither their tenant nor the source lacks room for. They are counted. */
async function withRoom(events: readonly StorableEvent[], owners: readonly Owner[]): Promise<StorableEvent[]> {
  const rooms = new Map(
    await allSettled(owners.map(async (owner) => [owner, await owner.quota.room(owner.name)] as const)),
  );
  const [ofSource, ...tenants] = owners;
  const tenantsByName = new Map(tenants.map((tenant) => [tenant.name, tenant]));
  return events.filter((event) => {
    const items = itemCount(event);
    const counting = [ofSource, tenantsByName.get(tenantOf(event))].filter((owner) => owner !== undefined);
    if (!counting.every((owner) => rooms.get(owner)?.has(items))) return false;
    for (const owner of counting) rooms.get(owner)?.take(items);
    return true;
  });
}

function refusal(owners: readonly Owner[], full: Owner): TidegateError {
  const tooLarge = owners.find(({ quota, items }) => items > quota.limit);
  if (!tooLarge) {
    const message = `too many items of this ${full.kind} are waiting`;
    return new TidegateError("rate_limited", message, { retryAfterMs: fullRetryMs });
  }
  const { kind, items, quota } = tooLarge;
  const name = kind === "source" ? "perSource" : "perTenant";
  const message = `has ${items} items of one ${kind}, and quotas.${name} is ${quota.limit}: raise it, or send fewer parts at once`;
  return new TidegateError("payload_too_large", message);
}

/** What ends a webhook of which nothing is admitted. */
function endOf({ events, droppedParts }: Admitted): "dropped" | "duplicate" | undefined {
  if (events.length > 0) return undefined;
  return droppedParts > 0 ? "dropped" : "duplicate";
}

function tenantOf({ identity: { tenant = "" } }: StorableEvent): string {
  return tenant;
}

function itemCount({ route, identity }: StorableEvent): number {
  return servicesOf(route, identity).length;
}
