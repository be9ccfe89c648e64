/** Secrets of endpoints, after the Standard Webhooks specification. */
import { createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import type { EndpointSecret } from "./endpoint.ts";

const prefix = "whsec_";
const newKeyBytes = 32;
const keyBytes = { min: 24, max: 64 };
/** The current one, and those that expire. */
export const maxSecrets = 4;

export function newSecret(): string {
  return prefix + randomBytes(newKeyBytes).toString("base64");
}

/** @returns the bytes that sign, undefined where the text is no secret: `whsec_` and the base64 of 24 to 64 bytes. */
export function secretKey(text: string): KeyObject | undefined {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  const key = Buffer.from(text.slice(prefix.length), "base64");
  return key.length < keyBytes.min || key.length > keyBytes.max ? undefined : createSecretKey(key);
}

function validSecrets(secrets: readonly EndpointSecret[], nowMs: number): readonly EndpointSecret[] {
  return secrets.filter(({ expiresAt = Infinity }) => expiresAt > nowMs);
}

/** The new secret first. Earlier secrets also sign until they expire. */
export function rotated(
  secrets: readonly EndpointSecret[],
  { secret, nowMs, expiresAt }: { secret: string; nowMs: number; expiresAt: number },
): EndpointSecret[] {
  const before = validSecrets(secrets, nowMs).filter((known) => known.secret !== secret);
  const expiring = before.map((known) => ({ ...known, expiresAt: Math.min(expiresAt, known.expiresAt ?? Infinity) }));
  return [{ secret }, ...validSecrets(expiring, nowMs)].slice(0, maxSecrets);
}
