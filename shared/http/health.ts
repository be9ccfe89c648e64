/** Liveness, readiness and metrics, as probes and scrapers ask for them. */
import type { FastifyInstance } from "fastify";
import type { StoreState } from "../runtime/store-state.ts";
import type { Metrics } from "../runtime/metrics.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Who may call a route, where its door asks for tokens: those whose token has this scope, or anybody. */
    access?: string;
  }
}

/** `degraded`: works in part, and takes traffic. */
export type HealthStatus = "ok" | "degraded" | "fail";

/** While the store is away, or refuses writes, every node is degraded and takes traffic. A node that alone is deaf must not look healthy. */
export function storeHealth(state: StoreState): HealthStatus {
  return ({ ok: "ok", away: "degraded", refusing: "degraded", deaf: "fail" } as const)[state];
}

/** The worst of the checks is the status of the whole. */
export type HealthChecks = () => Readonly<Record<string, HealthStatus>>;

export function overallHealth(checks: Readonly<Record<string, HealthStatus>>): HealthStatus {
  const statuses = Object.values(checks);
  if (statuses.includes("fail")) return "fail";
  return statuses.includes("degraded") ? "degraded" : "ok";
}

export function addHealthRoutes(app: FastifyInstance, options: { checks: HealthChecks; metrics: Metrics }): void {
  const hidden = { config: { access: "public" }, schema: { hide: true } } as const;
  app.get("/livez", hidden, () => ({ status: "ok", checks: {} }));
  app.get("/readyz", hidden, (_request, reply) => {
    const checks = options.checks();
    const status = overallHealth(checks);
    return reply.code(status === "fail" ? 503 : 200).send({ status, checks });
  });
  app.get("/metrics", hidden, async (_request, reply) => {
    return reply.type(options.metrics.contentType).send(await options.metrics.render());
  });
}
