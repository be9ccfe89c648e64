/** Stores an event in the queues of its services, whatever door it came through. */
import { identityKey } from "../../shared/protocol/identity-key.ts";
import type { Enqueued, NewItem } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import type { RouteRule } from "../../shared/rules/schema.ts";
import { allSettled } from "../../shared/runtime/timing.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import { eventId, hookEventId } from "../../shared/services/cloudevents.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { SessionStore } from "../../shared/sessions/contract.ts";
import type { GatewayContext } from "../node/context.ts";

/** `now` is that of the store, so that clocks of gateways do not matter. */
type Stores = Pick<GatewayContext, "queues"> & { readonly sessionStore: Pick<SessionStore, "now"> };

export interface StorableEvent {
  readonly identity: Identity;
  readonly event: string;
  readonly route: RouteRule;
  readonly key: string;
  readonly class: string;
  /** `ce-id` of the request to the route's service. */
  readonly id: string;
  /** Where a second event with the id is not stored within 10 minutes. */
  readonly dedupes: "nowhere" | "in its queue" | "everywhere";
  /** `ce-source` */
  readonly source: string;
  /** The webhook source whose quota counts it. */
  readonly hook?: string;
  readonly data: string;
  /** Of data that is not JSON. */
  readonly contentType?: string;
  /** Without it a new trace begins. */
  readonly traceparent?: string;
  /** Of data that stands for bytes. */
  readonly encoding?: "base64";
}

/** The services whose queues get the event: the route's first. */
export function servicesOf(route: RouteRule, identity: Identity): readonly string[] {
  return [serviceOf(route, identity), ...(route.also ?? [])];
}

/** One for each of its services. @param at Unix ms by the store's clock */
export function itemsOf(given: StorableEvent, at: number): NewItem[] {
  const { identity, event, route, key, id, dedupes, source, hook, data, contentType, encoding } = given;
  const { traceparent = newTraceparent() } = given;
  const { tenant = "" } = identity;
  const hasEvent = route.path.includes("{event}");
  const path = hasEvent ? route.path.replaceAll("{event}", encodeURIComponent(event)) : route.path;
  const form = { ...(contentType !== undefined && { contentType }), ...(encoding !== undefined && { encoding }) };
  const common = { event, source, path, at, traceparent, ...form };
  return servicesOf(route, identity).map((service, index) => {
    const ownId = index === 0 ? id : alsoId(given, service);
    return {
      queue: { service, tenant, key },
      class: given.class,
      head: formatHead({ ...common, id: ownId }, identity),
      data,
      ...(hook !== undefined && { source: hook }),
      ...(dedupes !== "nowhere" && { dedupeId: ownId, dedupesEverywhere: dedupes === "everywhere" }),
    };
  });
}

/** Each service of `also` knows the event by an id of its own. A webhook that is repeated may have another tenant. */
function alsoId({ id, identity, hook }: StorableEvent, service: string): string {
  const ofService = `${id} ${service}`;
  return hook === undefined ? eventId(identityKey(identity), ofService) : hookEventId(hook, ofService);
}

/**
 * Events that are given one after the other within one turn of the event loop keep their order. The outcome is that of the route's service.
 * @throws TidegateError `broker_unavailable`, once nothing of the event is under way
 */
export function storeEvent(given: StorableEvent, { queues, sessionStore }: Stores): Promise<Enqueued> {
  const [item, ...others] = itemsOf(given, sessionStore.now());
  if (!item) throw new Error("a route names no service");
  const first = queues.enqueue(item);
  if (others.length === 0) return first;
  // Async: what one of them throws must not leave those before it without a listener.
  return allSettled([first, ...others.map(async (other) => queues.enqueue(other))]).then(() => first);
}

/** Whether a repeat of the event has nothing left to store: it needs no room. */
export async function wasStored(given: StorableEvent, { queues, sessionStore }: Stores): Promise<boolean> {
  if (given.dedupes === "nowhere") return false;
  const stored = await allSettled(itemsOf(given, sessionStore.now()).map(async (item) => queues.wasStored(item)));
  return stored.every(Boolean);
}
