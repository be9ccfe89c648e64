/** The rules of order schedules: an event for each way in which a queue may treat its items. */
import { serviceSecret } from "../../test/support/fleet.ts";
import type { SeededRandom } from "../../test/support/seeded-random.ts";

const policies = { skip: "order.skip", park: "order.park", block: "order.block" } as const;
export const orderEvents = ["order.plain", "order.batch", ...Object.values(policies)] as const;
export const eventOfPolicy: Readonly<Record<keyof typeof policies, string>> = policies;

/** Of the clients, one each. */
export const tenants = ["", "blue"];
export const orderService = "orders";
const timeoutMs = 1_500;
/** Of the webhooks. */
export const hookSecret = "a secret of the order checker";
/** A source for each event. */
export const orderSources = orderEvents.map((event) => ({ name: event.replace("order.", ""), event }));
/** What other faults fail must not use up the attempts of the events without a policy of their own. */
const manyAttempts = { attempts: 1_000, minMs: 10, maxMs: 500 };
const fewAttempts = { attempts: 3, minMs: 10, maxMs: 200 };

interface Route {
  readonly event: string;
  readonly [member: string]: unknown;
}

export function orderRules(url: string): object {
  return document(url, 20, routes());
}

/** Other classes, batches, retries and limits, and the routes in another order. */
export function editedRules(url: string, random: SeededRandom): object {
  const edited = routes().map((route) => ({
    ...route,
    class: random.pick(["messages", "stats", "imports"]),
    batch: random.pick([1, 1, 2, 10]),
  }));
  const at = random.between(0, edited.length - 1);
  return document(url, random.between(2, 50), [...edited.slice(at), ...edited.slice(0, at)]);
}

/** The clients' events are refused, and stored items wait. */
export function rulesWithoutRoutes(url: string): object {
  return document(url, 20, []);
}

function document(url: string, maxInFlight: number, routes: readonly Route[]): object {
  return {
    services: { [orderService]: { url, secret: serviceSecret, timeoutMs, maxInFlight } },
    classes: { messages: { share: 8 }, stats: { share: 1 }, imports: { share: 3 } },
    routes,
    ...(routes.length > 0 && { sources: sources() }),
  };
}

function sources(): object {
  const common = {
    verify: "github",
    secrets: ["env:ORDER_HOOK_SECRET"],
    id: "header:x-github-delivery",
    key: "body:/key",
  };
  return Object.fromEntries(orderSources.map(({ name, event }) => [name, { ...common, route: event, journal: true }]));
}

function routes(): Route[] {
  const common = { service: orderService, path: "/", mode: "enqueue", key: "/key" };
  return [
    { event: "order.plain", ...common, retry: manyAttempts },
    { event: "order.batch", ...common, retry: manyAttempts, batch: 5 },
    ...Object.entries(policies).map(([onFailure, event]) => ({
      ...{ event, ...common, onFailure, retry: fewAttempts, class: "stats" },
    })),
  ];
}
