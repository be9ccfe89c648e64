/** How the private API describes itself: the calls of its routes, each with its scope and the form of its refusals. */
import type { SwaggerOptions } from "@fastify/swagger";
import type { FastifySchema } from "fastify";
import { Type } from "typebox";
import { requestCodes } from "../shared/protocol/codes.ts";

const Problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String({ description: "What is wrong, and what to change" }),
  code: Type.Enum(Object.keys(requestCodes)),
  retryable: Type.Boolean({ description: "Whether the same call may succeed later" }),
  retryAfterMs: Type.Optional(
    Type.Integer({ description: "Shortest wait before that; Retry-After has it in seconds" }),
  ),
  errors: Type.Optional(Type.Array(Type.String(), { description: "Every finding" })),
});

const refusals = {
  description: "A refusal (RFC 9457). Some codes have further members",
  content: { "application/problem+json": { schema: Problem } },
};

export const openApi: SwaggerOptions = {
  openapi: {
    openapi: "3.1.0",
    info: { title: "Tidegate private API", version: "1" },
    components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    security: [{ token: [] }],
  },
  transform: ({ schema, url, route }) => ({ url, schema: completed(schema, route.config?.access) }),
};

function completed(schema: FastifySchema, scope = ""): FastifySchema {
  const { description, response = { 200: { description: "Done" } } } = schema;
  const needs = `Needs the scope ${scope}.`;
  return {
    ...schema,
    description: description === undefined ? needs : `${description} ${needs}`,
    response: { ...(response as object), default: refusals },
  };
}
