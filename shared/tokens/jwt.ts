/** The one place that knows the JWT library. */
import { createSecretKey, type KeyObject } from "node:crypto";
import {
  createLocalJWKSet,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from "jose";
import { parseJson } from "../json/json.ts";
import { FetchedDocument, type FetchTiming } from "../http/fetched-document.ts";

export interface VerifierOptions {
  /** HS256, the shared secret. */
  secret?: string | undefined;
  /** RS256, ES256, EdDSA: keys are fetched, kept, and fetched again for an unknown key id. */
  jwksUrl?: string | undefined;
  issuer?: string | undefined;
  audience?: string | undefined;
}

export type Verification =
  | { kind: "valid"; claims: JWTPayload }
  /** Genuine, but for its time. */
  | { kind: "expired"; claims: JWTPayload }
  | { kind: "invalid"; reason: string }
  /** The keys cannot be fetched: nothing is known about the token. */
  | { kind: "unavailable"; cause: unknown };

export type Verifier = (token: string) => Promise<Verification>;

/** Difference between the issuer's clock and ours that is let pass. */
export const clockToleranceSeconds = 10;
const jwksTiming: FetchTiming = {
  timeoutMs: 4_000,
  maxAgeMs: 600_000,
  // An issuer that is away for an hour keeps nobody out whose key was known before.
  maxStaleMs: 3_600_000,
  // Tokens of keys that are not known, forged ones too, cost a fetch in this time at most.
  cooldownMs: 10_000,
  // As soon as those who were told to come back do so.
  failureCooldownMs: 2_000,
};

/** For a token that does not say which key signed it. Issuers have two or three at a time; each try costs a signature check. */
const maxKeysTried = 10;

/** Checks signature, algorithm, `exp`, `sub`, and issuer and audience where given. */
export function createVerifier(options: VerifierOptions): Verifier {
  const { secret, jwksUrl, issuer, audience } = options;
  const common = {
    clockTolerance: clockToleranceSeconds,
    requiredClaims: ["sub", "exp"],
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };
  // As an object: the library would import bytes anew for each token.
  const sharedKey = secret === undefined ? undefined : createSecretKey(secret, "utf8");
  const verifyByFetchedKeys =
    jwksUrl === undefined
      ? undefined
      : createKeySetVerifier(new URL(jwksUrl), { ...common, algorithms: ["RS256", "ES256", "EdDSA"] });
  const verifyBySharedKey = async (token: string): Promise<JWTPayload> =>
    (await jwtVerify(token, sharedKey as KeyObject, { ...common, algorithms: ["HS256"] })).payload;

  return async (token) => {
    try {
      const byFetchedKeys = verifyByFetchedKeys && !(sharedKey && isHs256(token));
      const verified = await (byFetchedKeys ? verifyByFetchedKeys : verifyBySharedKey)(token);
      return { kind: "valid", claims: exactClaims(token, verified) };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return { kind: "expired", claims: exactClaims(token, error.payload) };
      if (error instanceof errors.JOSEError) return { kind: "invalid", reason: error.message };
      // Not the token's own fault: keys that cannot be fetched, or not be used.
      return { kind: "unavailable", cause: error };
    }
  };
}

/** Fetches the keys again for a token that none of them made: the issuer may have a new one. @throws FetchFailed */
function createKeySetVerifier(url: URL, options: JWTVerifyOptions): (token: string) => Promise<JWTPayload> {
  // The library checks the form.
  const document = new FetchedDocument({
    url,
    read: (json) => createLocalJWKSet(json as JSONWebKeySet),
    timing: jwksTiming,
  });
  return async (token) => {
    const keys = await document.current();
    try {
      return await verifyByAny(token, keys, options);
    } catch (error) {
      const newerKeys = await newerFor(error, keys, document);
      if (!newerKeys) throw error;
      return verifyByAny(token, newerKeys, options);
    }
  };
}

async function newerFor(
  failure: unknown,
  keys: JWTVerifyGetKey,
  document: FetchedDocument<JWTVerifyGetKey>,
): Promise<JWTVerifyGetKey | undefined> {
  if (failure instanceof errors.JWKSNoMatchingKey) return document.newerThan(keys);
  if (!(failure instanceof errors.JWSSignatureVerificationFailed)) return undefined;
  // Keys replaced under the same id, or without one. Where they cannot be fetched the known ones have the last word.
  return document.newerThan(keys).catch(() => undefined);
}

/** By the key that the token names; by each that fits its algorithm where it names none, or several have that id. */
async function verifyByAny(token: string, keys: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, keys, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    for await (const key of error) {
      if (++tried > maxKeysTried) break;
      try {
        return (await jwtVerify(token, key, options)).payload;
      } catch (failure) {
        if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** As the issuer wrote them: of the library's own the numbers are rounded. */
function exactClaims(token: string, verified: JWTPayload): JWTPayload {
  const claims = parseJson(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
  return { ...verified, ...(claims as JWTPayload) };
}

function isHs256(token: string): boolean {
  try {
    const header = JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { alg?: unknown };
    return header.alg === "HS256";
  } catch {
    return false;
  }
}
