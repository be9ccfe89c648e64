/** The user that a call addresses: `/v1/users/{user}/…?tenant=`. */
import type { FastifyRequest } from "fastify";
import { type Static, Type } from "typebox";
import { assertDecodable } from "../../shared/http/query.ts";
import { type IdentityKey, identityKey } from "../../shared/protocol/identity-key.ts";
import { maxTenantLength, maxUserLength } from "../../shared/protocol/limits.ts";

const UserPath = Type.Object({ user: Type.String({ minLength: 1, maxLength: maxUserLength }) });
/** Rejects other members: with a misspelt `tenant` the call would address another user. */
const TenantQuery = Type.Object(
  {
    tenant: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: maxTenantLength,
        description: "The user's tenant, as in the token. Absent: the user without a tenant",
      }),
    ),
  },
  { additionalProperties: false },
);

/** The part of a route's schema that {@link identityOf} relies on. */
export const userSchema = { tags: ["users"], params: UserPath, querystring: TenantQuery };
/** Of a call that tells all nodes something. */
export const userCommandSchema = { ...userSchema, response: { 202: Type.Object({}) } };
export interface UserRoute {
  Params: Static<typeof UserPath>;
  Querystring: Static<typeof TenantQuery>;
}

/** @throws TidegateError for a badly encoded query. */
export function identityOf({ params, query, url }: FastifyRequest<UserRoute>): IdentityKey {
  assertDecodable(url);
  return identityKey({ user: params.user, tenant: query.tenant });
}
