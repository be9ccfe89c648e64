/** Stores an event in the queues of its services, whatever door it came through. */
import { identityKey } from "../../shared/protocol/identity-key.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import type { RouteRule } from "../../shared/rules/schema.ts";
import { allSettled } from "../../shared/runtime/timing.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { GatewayContext } from "../node/context.ts";

export interface StorableEvent {
  readonly identity: Identity;
  readonly event: string;
  readonly route: RouteRule;
  readonly key: string;
  readonly class: string;
  /** `ce-id` of the request to the route's service. */
  readonly id: string;
  /** A second event with the id is not stored within 10 minutes. */
  readonly dedupes: boolean;
  /** `ce-source` */
  readonly source: string;
  /** The webhook source whose quota counts it. */
  readonly hook?: string;
  readonly data: string;
  /** Of data that is not JSON. */
  readonly contentType?: string;
  /** Of data that stands for bytes. */
  readonly encoding?: "base64";
}

/** The services whose queues get the event: the route's first. */
export function servicesOf(route: RouteRule, identity: Identity): readonly string[] {
  return [serviceOf(route, identity), ...(route.also ?? [])];
}

/** One for each of its services. */
export function itemsOf(given: StorableEvent): NewItem[] {
  const { identity, event, route, key, id, source, hook, data, contentType, encoding } = given;
  const { tenant = "" } = identity;
  const path = route.path.replaceAll("{event}", encodeURIComponent(event));
  const form = { ...(contentType !== undefined && { contentType }), ...(encoding !== undefined && { encoding }) };
  const common = { event, source, path, at: Date.now(), traceparent: newTraceparent(), ...form };
  return servicesOf(route, identity).map((service, index) => {
    // Each service of `also` knows the event by an id of its own.
    const ownId = index === 0 ? id : eventId(identityKey(identity), `${id} ${service}`);
    return {
      queue: { service, tenant, key },
      class: given.class,
      head: formatHead({ ...common, id: ownId }, identity),
      data,
      ...(hook !== undefined && { source: hook }),
      ...(given.dedupes && { dedupeId: ownId }),
    };
  });
}

/**
 * Events that are given one after the other within one turn of the event loop keep their order.
 * @throws TidegateError `broker_unavailable`, once nothing of the event is under way
 */
export async function storeEvent(given: StorableEvent, { queues }: GatewayContext): Promise<"stored" | "duplicate"> {
  const stored = itemsOf(given).map((item) => queues.enqueue(item));
  // Most events have one service.
  const [first] = stored.length === 1 ? [await stored[0]] : await allSettled(stored);
  return first?.kind === "duplicate" ? "duplicate" : "stored";
}

/** Whether a repeat of the event has nothing left to store: it needs no room. */
export async function wasStored(given: StorableEvent, { queues }: GatewayContext): Promise<boolean> {
  if (!given.dedupes) return false;
  const stored = await allSettled(itemsOf(given).map((item) => queues.wasStored(item)));
  return stored.every(Boolean);
}
