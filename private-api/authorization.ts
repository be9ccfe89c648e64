/** Who may call: bearer tokens with scopes. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { TidegateError } from "../shared/errors.ts";
import type { ApiTokens, Scope } from "./config.ts";

interface KnownToken {
  name: string;
  hash: Buffer;
  scopes: ReadonlySet<Scope>;
}

export type ScopeGuard = (scope: Scope) => (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Compares hashes, all of them each time: neither the length nor a shared beginning shows in the time it takes. */
export function createScopeGuard(tokens: ApiTokens): ScopeGuard {
  const known: KnownToken[] = tokens.map(({ name, token, scopes }) => ({
    name,
    hash: hashOf(token),
    scopes: new Set(scopes),
  }));

  function identify(given: string): KnownToken | undefined {
    const hash = hashOf(given);
    let found: KnownToken | undefined;
    for (const candidate of known) if (timingSafeEqual(candidate.hash, hash)) found = candidate;
    return found;
  }

  return (scope) => async (request) => {
    const [, given] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "") ?? [];
    const caller = given === undefined ? undefined : identify(given);
    if (!caller) throw new TidegateError("unauthenticated", "a known token is needed: authorization: Bearer <token>");
    if (!caller.scopes.has(scope)) {
      throw new TidegateError("missing_scope", `the token "${caller.name}" lacks the scope "${scope}"`);
    }
  };
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
