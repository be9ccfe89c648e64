/** The one place that knows the JWT library. */
import { createSecretKey } from "node:crypto";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from "jose";
import { FetchedDocument, type FetchTiming } from "./http/fetched-document.ts";

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
  // Key ids that are not known, forged ones too, cost a fetch in this time at most.
  cooldownMs: 10_000,
  // As soon as those who were told to come back do so.
  failureCooldownMs: 2_000,
};

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
  const fetchedKeys = jwksUrl === undefined ? undefined : createKeyLookup(new URL(jwksUrl));

  return async (token) => {
    try {
      const { payload } =
        sharedKey && !(fetchedKeys && !isHs256(token))
          ? await jwtVerify(token, sharedKey, { ...common, algorithms: ["HS256"] })
          : await jwtVerify(token, fetchedKeys as JWTVerifyGetKey, {
              ...common,
              algorithms: ["RS256", "ES256", "EdDSA"],
            });
      return { kind: "valid", claims: payload };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return { kind: "expired", claims: error.payload };
      if (error instanceof errors.JOSEError) return { kind: "invalid", reason: error.message };
      // Not the token's own fault: keys that cannot be fetched, or not be used.
      return { kind: "unavailable", cause: error };
    }
  };
}

/** A key by its id. @throws FetchFailed */
function createKeyLookup(url: URL): JWTVerifyGetKey {
  // The library checks the form.
  const document = new FetchedDocument({
    url,
    read: (json) => createLocalJWKSet(json as JSONWebKeySet),
    timing: jwksTiming,
  });
  return async (header, token) => {
    const keys = await document.current();
    try {
      return await keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const newerKeys = await document.newer();
      if (!newerKeys) throw error;
      return newerKeys(header, token);
    }
  };
}

function isHs256(token: string): boolean {
  try {
    const header = JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { alg?: unknown };
    return header.alg === "HS256";
  } catch {
    return false;
  }
}
