import type { RouteRule } from "./schema.ts";
import { pointOf, pointsPerPercent } from "../rollouts/point.ts";

/**
 * The service for a caller's events: the route's own, or the one that it is rolled out to. Routes with a rollout to the same
 * service select the same callers.
 */
export function serviceOf(route: RouteRule, caller: { user: string; tenant?: string | undefined }): string {
  const { rollout, service } = route;
  if (!rollout) return service;
  const { user, tenant } = caller;
  const subject = rollout.by === "tenant" && tenant !== undefined ? { tenant } : { user, tenant };
  return pointOf(`service ${rollout.to}`, subject) < Math.round(rollout.percent * pointsPerPercent)
    ? rollout.to
    : service;
}
