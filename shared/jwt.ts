/** The one place that knows the JWT library. */
import { createSecretKey } from "node:crypto";
import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from "jose";

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
const jwksTimeoutMs = 4_000;
/** At most one fetch in this time for key ids that are not known, so that forged ones cost nothing. */
const jwksCooldownMs = 10_000;
const jwksMaxAgeMs = 600_000;

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
  const fetchedKeys =
    jwksUrl === undefined
      ? undefined
      : createRemoteJWKSet(new URL(jwksUrl), {
          timeoutDuration: jwksTimeoutMs,
          cooldownDuration: jwksCooldownMs,
          cacheMaxAge: jwksMaxAgeMs,
        });

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
      if (isKeyFetchFailure(error)) return { kind: "unavailable", cause: error };
      return { kind: "invalid", reason: (error as Error).message };
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

/** Everything that is not the token's own fault. */
function isKeyFetchFailure(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  // The library throws its base class for an answer that is not 200, and lets errors of fetch pass.
  return !(error instanceof errors.JOSEError) || error.code === "ERR_JOSE_GENERIC";
}
