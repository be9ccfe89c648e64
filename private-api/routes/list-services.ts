import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";

const unixMs = Type.Integer({ description: "Unix ms" });

const Service = Type.Object({
  service: Type.String(),
  circuit: Type.Enum(["closed", "open"]),
  /** While the circuit is open. */
  retryAfterMs: Type.Optional(Type.Integer({ minimum: 0 })),
  lastSuccessAt: Type.Optional(unixMs),
  lastError: Type.Optional(
    Type.Object({
      at: unixMs,
      code: Type.String(),
      status: Type.Optional(Type.Integer()),
      cause: Type.String(),
      event: Type.String(),
      requestId: Type.String({ description: "ce-id of the request" }),
      ms: Type.Integer({ minimum: 0 }),
    }),
  ),
});

/** `GET /v1/services` → `{ services }`: each service of the rules, as this process has seen it. */
export function addListServices(app: FastifyInstance, context: PrivateApiContext): void {
  app.get(
    "/v1/services",
    {
      config: { access: "read" },
      schema: {
        summary: "The services of the rules: circuit, last success and last error in this process",
        tags: ["services"],
        response: { 200: Type.Object({ services: Type.Array(Service) }) },
      },
    },
    () => ({ services: list(context) }),
  );
}

function list({ currentRules, upstream }: PrivateApiContext): Static<typeof Service>[] {
  const now = performance.now();
  return [...currentRules.rules.services].map((service) => {
    const circuit = upstream.circuits.of(service);
    return {
      service: service.name,
      circuit: circuit.isOpen ? "open" : "closed",
      ...(circuit.isOpen && { retryAfterMs: circuit.retryAfterMs(now) }),
      ...upstream.failures.of(service.name),
    };
  });
}
