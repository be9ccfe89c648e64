/** The user or client that asks where to connect: decides on the rollout group. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Verifier } from "../../shared/tokens/jwt.ts";
import { maxTokenLength } from "../../shared/protocol/limits.ts";
import type { Subject } from "../../shared/rollouts/point.ts";
import { readClaims, tokenTooLong, undecidedRetryMs } from "../sessions/authentication.ts";
import { resumableUntil } from "../sessions/resume-token.ts";

/**
 * Undefined where the request names neither user nor client. An expired token is accepted while its user may still resume.
 */
export async function readSubject(
  verify: Verifier,
  given: { authorization: string | undefined; client: string | undefined },
): Promise<Subject | undefined> {
  const { authorization, client } = given;
  if (authorization === undefined) return client === undefined ? undefined : { client };
  const [, token = ""] = /^Bearer +(\S+)$/i.exec(authorization) ?? [];
  if (token === "") throw unauthenticated("the authorization header must be: Bearer <token>");
  if (token.length > maxTokenLength) throw unauthenticated(tokenTooLong);
  const verification = await verify(token);
  switch (verification.kind) {
    case "invalid":
      throw unauthenticated(`the token is not valid: ${verification.reason}`);
    case "unavailable":
      throw new TidegateError("upstream_unavailable", "the keys for checking tokens cannot be fetched", {
        retryAfterMs: undecidedRetryMs,
        cause: verification.cause,
      });
    case "valid":
    case "expired":
  }
  const read = readClaims(verification.claims, "");
  if (read.kind === "refused") throw unauthenticated(read.refusal.message);
  const now = Date.now();
  if (verification.kind === "expired" && now > resumableUntil(read.credentials, now)) {
    throw unauthenticated("the token has expired: send a new one");
  }
  return { user: read.credentials.user, tenant: read.credentials.tenant };
}

function unauthenticated(message: string): TidegateError {
  return new TidegateError("unauthenticated", message);
}
