import type { RouteRule } from "./document.ts";
import { pointOf, pointsPerPercent } from "../rollouts/point.ts";

/**
 * The service that gets this caller's events of a route: its own, or the one it is rolled out to. Routes that are rolled
 * out to one service choose the same callers.
 */
export function serviceOf(route: RouteRule, caller: { user: string; tenant?: string | undefined }): string {
  const { rollout, service } = route;
  if (!rollout) return service;
  const { user, tenant } = caller;
  const subject = rollout.by === "tenant" && tenant !== undefined ? { tenant } : { user, tenant };
  return pointOf(`service ${rollout.to}`, subject) < rollout.percent * pointsPerPercent ? rollout.to : service;
}
