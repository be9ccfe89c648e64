/** Verifies JWTs, by shared secrets or the keys of a JWKS. */
import { createSecretKey, type KeyObject } from "node:crypto";
import {
  createLocalJWKSet,
  type CryptoKey,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from "jose";
import { parseJson } from "../json/json.ts";
import { FetchedDocument, type FetchTiming } from "../http/fetched-document.ts";
import type { Logger } from "../runtime/logging.ts";
import { PacedLog } from "../runtime/paced-log.ts";

export interface VerifierOptions {
  /** Shared secrets for HS256: a token is signed with one of them. */
  secrets?: readonly string[] | undefined;
  /** For RS256, ES256 and EdDSA. Keys are fetched, cached, and fetched again for an unknown key id. */
  jwksUrl?: string | undefined;
  issuer?: string | undefined;
  audience?: string | undefined;
  logger: Logger;
}

export type Verification =
  | { kind: "valid"; claims: JWTPayload }
  /** Valid except for its expiry. */
  | { kind: "expired"; claims: JWTPayload }
  | { kind: "invalid"; reason: string }
  /** The keys cannot be fetched, so the token could not be checked. */
  | { kind: "unavailable"; cause: unknown };

export type Verifier = (token: string) => Promise<Verification>;

/** Tolerated difference between the issuer's clock and ours. */
export const clockToleranceSeconds = 10;
const jwksTiming: FetchTiming = {
  timeoutMs: 4_000,
  maxAgeMs: 600_000,
  // Tokens of known keys are accepted while the issuer is away, for an hour.
  maxStaleMs: 3_600_000,
  // Tokens with unknown keys, forged ones included, cause at most one fetch in this time.
  cooldownMs: 10_000,
  // About the retry time that refused clients get.
  failureCooldownMs: 2_000,
};

/** An `exp` from here on is in milliseconds: as seconds it is in the year 33,658. */
const firstInMilliseconds = 1e12;
const oneLineAMinute = { capacity: 1, perSecond: 1 / 60 };

/** Of a JWKS. */
const maxKeys = 100;
/** For a token without a key id. Issuers have two or three keys at a time; each try costs a signature check. */
const maxKeysTried = 10;

/** Checks signature, algorithm, `exp`, `sub`, and issuer and audience where given. */
export function createVerifier(options: VerifierOptions): Verifier {
  const { secrets = [], jwksUrl, issuer, audience, logger } = options;
  const common = {
    clockTolerance: clockToleranceSeconds,
    requiredClaims: ["sub", "exp"],
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
  };
  // As KeyObjects: the library would import raw bytes for every token.
  const sharedKeys = secrets.map((secret) => createSecretKey(secret, "utf8"));
  const verifyByFetchedKeys =
    jwksUrl === undefined
      ? undefined
      : createKeySetVerifier(new URL(jwksUrl), logger, { ...common, algorithms: ["RS256", "ES256", "EdDSA"] });
  const verifyBySharedKeys = async (token: string): Promise<JWTPayload> =>
    verifyByEach(token, sharedKeys, { ...common, algorithms: ["HS256"] });

  const mistakes = new PacedLog({ logger, rate: oneLineAMinute });
  const warnOfExpiry = ({ exp = 0, iss }: JWTPayload): void => {
    if (exp < firstInMilliseconds) return;
    mistakes.warn(
      "exp",
      { exp, iss },
      "the exp of a token is in milliseconds: it counts in seconds, so the token never expires",
    );
  };

  return async (token) => {
    try {
      const byFetchedKeys = verifyByFetchedKeys && !(sharedKeys.length > 0 && isHs256(token));
      const verified = await (byFetchedKeys ? verifyByFetchedKeys : verifyBySharedKeys)(token);
      warnOfExpiry(verified);
      return { kind: "valid", claims: exactClaims(token, verified) };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return { kind: "expired", claims: exactClaims(token, error.payload) };
      if (error instanceof errors.JOSEError) return { kind: "invalid", reason: error.message };
      // Not the token's fault: the keys cannot be fetched or used.
      return { kind: "unavailable", cause: error };
    }
  };
}

/** Fetches the keys again for a token that no known key signed. @throws FetchFailed */
function createKeySetVerifier(
  url: URL,
  logger: Logger,
  options: JWTVerifyOptions,
): (token: string) => Promise<JWTPayload> {
  const document = new FetchedDocument({
    url,
    read: keySetOf,
    timing: jwksTiming,
    onFailure: ({ message }) => logger.warn({ reason: message }, "the keys of tokens cannot be fetched"),
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

/** @throws where it is none, or has too many keys */
function keySetOf(json: unknown): JWTVerifyGetKey {
  const keys = (json as { keys?: unknown } | null)?.keys;
  if (Array.isArray(keys) && keys.length > maxKeys) {
    throw new Error(`it has ${keys.length} keys: publish at most ${maxKeys}`);
  }
  // The library validates the rest.
  return createLocalJWKSet(json as JSONWebKeySet);
}

async function newerFor(
  failure: unknown,
  keys: JWTVerifyGetKey,
  document: FetchedDocument<JWTVerifyGetKey>,
): Promise<JWTVerifyGetKey | undefined> {
  if (failure instanceof errors.JWKSNoMatchingKey) return document.newerThan(keys);
  if (!(failure instanceof errors.JWSSignatureVerificationFailed)) return undefined;
  // A key may have been replaced under the same id, or without one. If fetching fails, the known keys decide.
  return document.newerThan(keys).catch(() => undefined);
}

/** Tries one key after the other, until one has signed the token. */
async function verifyByEach<Key extends KeyObject | CryptoKey>(
  token: string,
  keys: Iterable<Key> | AsyncIterable<Key>,
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  for await (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (failure) {
      if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
    }
  }
  throw new errors.JWSSignatureVerificationFailed();
}

/** Tries the key that the token names. Without a unique key id, tries every key that fits the algorithm. */
async function verifyByAny(token: string, keys: JWTVerifyGetKey, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, keys, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    return verifyByEach(token, upTo(maxKeysTried, error), options);
  }
}

/** Parsed again, because the library rounds large numbers. */
function exactClaims(token: string, verified: JWTPayload): JWTPayload {
  const claims = parseJson(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
  return { ...verified, ...(claims as JWTPayload) };
}

async function* upTo<Key>(most: number, keys: AsyncIterable<Key>): AsyncIterable<Key> {
  let taken = 0;
  for await (const key of keys) {
    if (++taken > most) return;
    yield key;
  }
}

function isHs256(token: string): boolean {
  try {
    const header = JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { alg?: unknown };
    return header.alg === "HS256";
  } catch {
    return false;
  }
}
