/** Bearer tokens and their scopes: which caller may use which route. */
import { createHash, timingSafeEqual } from "node:crypto";
import { TidegateError } from "../shared/runtime/errors.ts";
import type { Door } from "../shared/http/door.ts";
import { type ApiTokens, type Scope, scopes } from "./config.ts";

interface KnownToken {
  name: string;
  hash: Buffer;
  scopes: ReadonlySet<Scope>;
}

declare module "fastify" {
  interface FastifyRequest {
    /** The name of the caller's token; empty for a public call. */
    caller: string;
  }
}

/**
 * Refuses an unauthorized request after its head: no byte of its body is read. A route without `config.access` makes the
 * start fail.
 */
export function authorizeRequests(door: Door, tokens: ApiTokens): void {
  const identify = createTokenLookup(tokens);
  door.app.decorateRequest("caller", "");
  door.app.addHook("onRoute", ({ method, url, config: { access } = {} }) => {
    if (access === "public" || isScope(access)) return;
    throw new Error(`${String(method)} ${url} names no scope: set config.access`);
  });
  door.app.addHook("onRequest", (request, reply, done) => {
    const { access, isStream = false } = request.routeOptions.config;
    if (access !== "public") {
      request.caller = requireScope(identify(request.headers.authorization), access).name;
      door.vouchFor(request.raw, reply.raw, { isStream });
    }
    done();
  });
}

function requireScope(caller: KnownToken | undefined, scope: string | undefined): KnownToken {
  if (!caller) throw new TidegateError("unauthenticated", "a known token is required: authorization: Bearer <token>");
  if (!isScope(scope) || !caller.scopes.has(scope)) {
    throw new TidegateError("missing_scope", `the token "${caller.name}" lacks the scope "${scope}"`);
  }
  return caller;
}

function isScope(access: string | undefined): access is Scope {
  return (scopes as readonly (string | undefined)[]).includes(access);
}

/** Compares the hashes of all tokens each time, so that timing reveals neither a token's length nor a common prefix. */
function createTokenLookup(tokens: ApiTokens): (authorization?: string) => KnownToken | undefined {
  const known: KnownToken[] = tokens.map(({ name, token, scopes }) => ({
    name,
    hash: hashOf(token),
    scopes: new Set(scopes),
  }));
  return (authorization = "") => {
    const [, given = ""] = /^Bearer +(\S+)$/i.exec(authorization) ?? [];
    const hash = hashOf(given);
    let found: KnownToken | undefined;
    for (const candidate of known) if (timingSafeEqual(candidate.hash, hash)) found = candidate;
    return found;
  };
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
