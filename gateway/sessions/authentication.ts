/** From a client's token to its credentials, or to a refusal that the client gets over its connection. */
import { createHash } from "node:crypto";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import type { Identity } from "../../shared/services/identity-token.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { UserIdentity } from "../../shared/protocol/identity-key.ts";
import { isTooDeep } from "../../shared/json/json.ts";
import type { Verification, Verifier } from "../../shared/tokens/jwt.ts";
import { connectCodes, type ConnectCode, type ConnectRefusal } from "../../shared/protocol/codes.ts";
import { maxTenantLength, maxTokenLength, maxUserLength } from "../../shared/protocol/limits.ts";
import { describeFindings } from "../../shared/runtime/schema-errors.ts";

/** Characters of a refusal: a token of 8 KiB can have a thousand findings. */
export const maxRefusalLength = 1_000;

/** The largest Date, in Unix seconds. */
const maxUnixSeconds = 8.64e12;

/** Claims that Tidegate reads. The library has checked the registered ones. */
const ownClaims = Compile(
  Type.Object({
    sub: Type.String({ minLength: 1, maxLength: maxUserLength }),
    exp: Type.Number({ minimum: 0, maximum: maxUnixSeconds }),
    channels: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 1_000 })),
    tenant: Type.Optional(Type.String({ minLength: 1, maxLength: maxTenantLength })),
    info: Type.Optional(Type.Unknown()),
  }),
);

/** A verified token. */
export interface Credentials {
  user: string;
  tenant: string | undefined;
  /** Exact names, or prefixes with a final `*`. */
  channels: readonly string[];
  /** Unix ms. */
  expiresAt: number;
  claims: Identity["claims"];
  /** A digest of the token: the same token needs no second check. */
  tokenId: string;
}

export type Authentication =
  | { kind: "accepted"; credentials: Credentials }
  /** `expired`: the user of a token that is valid but for its expiry. */
  | { kind: "refused"; refusal: ConnectRefusal; expired?: UserIdentity };

export function refuse(code: ConnectCode, message: string, retryAfterMs?: number): ConnectRefusal {
  return {
    code,
    message: excerpt(message, maxRefusalLength),
    retryable: connectCodes[code].retryable,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
}

/** A client waits this long before its next attempt, where the node could not decide about the last one. */
export const undecidedRetryMs = 2_000;

export const tokenTooLong = `the token is longer than ${maxTokenLength} characters`;

export async function authenticate(verify: Verifier, token: string): Promise<Authentication> {
  const verification = await verify(token);
  if (verification.kind === "valid") return readClaims(verification.claims, tokenIdOf(token));
  const refusal = explain(verification);
  if (verification.kind !== "expired") return { kind: "refused", refusal };
  const read = readClaims(verification.claims, tokenIdOf(token));
  return read.kind === "refused" ? read : { kind: "refused", refusal, expired: read.credentials };
}

/** @param claims verified. */
export function readClaims(claims: Identity["claims"], tokenId: string): Authentication {
  if (isTooDeep(claims)) {
    return { kind: "refused", refusal: refuse("unauthenticated", "the token's claims are nested too deep") };
  }
  if (!ownClaims.Check(claims)) {
    const findings = describeFindings(ownClaims.Errors(claims)).join("; ");
    return { kind: "refused", refusal: refuse("unauthenticated", `the token's claims are not valid: ${findings}`) };
  }
  const { sub, exp, channels, tenant } = claims;
  // Half a surrogate pair becomes another character in UTF-8: two users would be one.
  if (![sub, tenant ?? ""].every((name) => name.isWellFormed())) {
    return { kind: "refused", refusal: refuse("unauthenticated", "the token's sub or tenant is no well-formed text") };
  }
  return {
    kind: "accepted",
    credentials: { user: sub, tenant, channels: channels ?? [], expiresAt: Math.floor(exp * 1000), claims, tokenId },
  };
}

/** Whether a grant or session of one may be used by the other. */
export function isSameClient(one: UserIdentity, other: UserIdentity): boolean {
  return one.user === other.user && one.tenant === other.tenant;
}

/** Distinguishes tokens without storing them. */
export function tokenIdOf(token: string): string {
  return createHash("sha256").update(token).digest("base64url").slice(0, 22);
}

function explain(verification: Exclude<Verification, { kind: "valid" }>): ConnectRefusal {
  switch (verification.kind) {
    case "expired":
      return refuse("token_expired", "the token has expired: connect with a new one");
    case "invalid":
      return refuse("unauthenticated", `the token is not valid: ${verification.reason}`);
    case "unavailable":
      return refuse("auth_unavailable", "the keys that tokens are checked with cannot be fetched", undecidedRetryMs);
  }
}
