/** Routes for liveness, readiness and metrics. */
import type { FastifyInstance } from "fastify";
import type { StoreState } from "../runtime/store-state.ts";
import type { Metrics } from "../runtime/metrics.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** At doors with tokens: the scope that a caller's token needs, or `public`. */
    access?: string;
  }
}

/** `degraded`: works in part, and still takes traffic. */
export type HealthStatus = "ok" | "degraded" | "fail";

/** `away` and `refusing` concern every node, so they keep taking traffic. `deaf` may concern one node, which must not look healthy. */
export function storeHealth(state: StoreState): HealthStatus {
  return ({ ok: "ok", away: "degraded", refusing: "degraded", deaf: "fail" } as const)[state];
}

/** With several cells: one that is not well concerns its slots only. The first one counts as the store, too. */
export function cellHealth(states: ReadonlyMap<string, StoreState>): { cells?: HealthStatus } {
  if (states.size < 2) return {};
  return { cells: [...states.values()].every((state) => state === "ok") ? "ok" : "degraded" };
}

/** By name of the check. The worst status counts for the process. */
export type HealthChecks = () => Readonly<Record<string, HealthStatus>>;

export function overallHealth(checks: Readonly<Record<string, HealthStatus>>): HealthStatus {
  const statuses = Object.values(checks);
  if (statuses.includes("fail")) return "fail";
  return statuses.includes("degraded") ? "degraded" : "ok";
}

export interface HealthOptions {
  checks: HealthChecks;
  /** Further members of the answer of `/readyz`. */
  details?: () => object;
  metrics: Metrics;
}

export function addHealthRoutes(app: FastifyInstance, options: HealthOptions): void {
  const hidden = { config: { access: "public" }, schema: { hide: true } } as const;
  app.get("/livez", hidden, () => ({ status: "ok", checks: {} }));
  app.get("/readyz", hidden, (_request, reply) => {
    const checks = options.checks();
    const status = overallHealth(checks);
    return reply.code(status === "fail" ? 503 : 200).send({ status, checks, ...options.details?.() });
  });
  app.get("/metrics", hidden, async (_request, reply) => {
    return reply.type(options.metrics.contentType).send(await options.metrics.render());
  });
}
