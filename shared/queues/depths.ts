/** Figures of queues, for answers and metrics, put together from exact counts and from a look at a part of the queues. Pure. */
import type { Rules } from "../rules/rules.ts";
import type { DepthFigures, QueueDepth, ServiceDepth } from "./contract.ts";

/** What a look found for one class, service and tenant. If there are more queues than it looked at, the numbers are estimates. */
export interface Look extends Omit<DepthFigures, "waiting"> {
  readonly class: string;
  readonly service: string;
  readonly tenant: string;
  /** Of the queues, those in flight included. */
  readonly items: number;
}

const none: DepthFigures = { waiting: 0, inFlight: 0, queues: 0, oldestMs: 0 };

/** @param counts exact: items of each class and tenant, those in flight included */
export function depthsOf(
  counts: readonly { class: string; tenant: string; items: number }[],
  looks: readonly Look[],
): { depths: QueueDepth[]; services: ServiceDepth[] } {
  const seen = Map.groupBy(looks, ({ class: name, tenant }) => JSON.stringify([name, tenant]));
  const depths = counts.map(({ class: name, tenant, items }): QueueDepth => {
    const { inFlight, queues, oldestMs } = total(seen.get(JSON.stringify([name, tenant])) ?? []);
    return { class: name, tenant, waiting: Math.max(0, items - inFlight), inFlight, queues, oldestMs };
  });
  return { depths, services: servicesOf(depths, looks) };
}

/** What waits in a class is exact. If the class has several services, the count is divided among them as in the sample. */
function servicesOf(depths: readonly QueueDepth[], looks: readonly Look[]): ServiceDepth[] {
  const waiting = new Map<string, number>();
  for (const depth of depths) waiting.set(depth.class, (waiting.get(depth.class) ?? 0) + depth.waiting);
  return [...Map.groupBy(looks, ({ class: name }) => name)].flatMap(([name, own]) => {
    const services = Map.groupBy(own, ({ service }) => service);
    const waits = (each: readonly Look[]): number =>
      each.reduce((sum, { items, inFlight }) => sum + Math.max(0, items - inFlight), 0);
    const all = waits(own);
    return [...services].map(([service, each]) => {
      const share = all > 0 ? waits(each) / all : 1 / services.size;
      return { class: name, service, ...total(each), waiting: Math.round((waiting.get(name) ?? 0) * share) };
    });
  });
}

/** @param classes that are listed even if nothing waits in them */
export function depthsByClass(depths: readonly QueueDepth[], classes: Iterable<string>): Map<string, DepthFigures> {
  const sums = new Map([...classes].map((name) => [name, none]));
  for (const depth of depths) sums.set(depth.class, sum(sums.get(depth.class), depth));
  return sums;
}

export function depthsByTenant(depths: readonly QueueDepth[]): Map<string, DepthFigures> {
  const sums = new Map<string, DepthFigures>();
  for (const depth of depths) sums.set(depth.tenant, sum(sums.get(depth.tenant), depth));
  return sums;
}

/** Of classes and services that the rules no longer have. */
const otherName = "other";

/** By class and service of the rules. @param rules `queueTargets` are listed even if nothing waits for them */
export function depthsByTarget(services: readonly ServiceDepth[], rules: Rules): ServiceDepth[] {
  const sums = new Map<string, ServiceDepth>();
  const add = (name: string, service: string, figures: DepthFigures): void => {
    const key = JSON.stringify([name, service]);
    sums.set(key, { class: name, service, ...sum(sums.get(key), figures) });
  };
  for (const { class: name, service } of rules.queueTargets) add(name, service, none);
  for (const each of services) {
    const service = rules.service(each.service) ? each.service : otherName;
    add(rules.classes.has(each.class) ? each.class : otherName, service, each);
  }
  return [...sums.values()];
}

function total(looks: readonly Look[]): DepthFigures {
  return looks.reduce<DepthFigures>(
    (all, { inFlight, queues, oldestMs }) => sum(all, { waiting: 0, inFlight, queues, oldestMs }),
    none,
  );
}

function sum(one: DepthFigures = none, other: DepthFigures): DepthFigures {
  return {
    waiting: one.waiting + other.waiting,
    inFlight: one.inFlight + other.inFlight,
    queues: one.queues + other.queues,
    oldestMs: Math.max(one.oldestMs, other.oldestMs),
  };
}
