/** HMAC signatures and their times: what all schemes share. */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** Providers send one, and two during a rotation. */
export const maxSignatures = 10;

/** Fits SHA-512. Each digest overwrites the one before: a buffer for each would cost a fifth of the HMAC of 1 KB. */
const digestRoom = Buffer.alloc(64);

/** A secret that signs as it is written. */
export function textKey(secret: string): KeyObject {
  return createSecretKey(Buffer.from(secret));
}

/** Of a header that is sent once. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * Whether one of the keys gives one of the signatures.
 * @param signatures decoded. @param parts of the signed text, in order; text is UTF-8
 */
export function isSigned(
  signatures: readonly Buffer[],
  { keys, algorithm, parts }: { keys: readonly KeyObject[]; algorithm: string; parts: readonly (string | Buffer)[] },
): boolean {
  let matches = 0;
  for (const key of keys) {
    const hmac = createHmac(algorithm, key);
    for (const part of parts) hmac.update(part);
    const expected = digestRoom.subarray(0, digestRoom.write(hmac.digest("binary"), "binary"));
    for (const signature of signatures.slice(0, maxSignatures)) {
      if (signature.length === expected.length && timingSafeEqual(signature, expected)) matches++;
    }
  }
  return matches > 0;
}

export const noMatch = "no signature matches: check the secret, and that nothing on the way changes the body";

/** @returns why the time is refused; undefined: it is near enough. */
export function staleness(
  timestamp: string | undefined,
  { nowSeconds, toleranceSeconds }: { nowSeconds: number; toleranceSeconds: number },
): string | undefined {
  if (timestamp === undefined || !/^\d{1,14}$/.test(timestamp)) return "the time of the signature is missing";
  const given = Number(timestamp);
  // No provider sends seconds beyond the year 5138: those are milliseconds.
  const seconds = given >= 1e11 ? given / 1_000 : given;
  if (Math.abs(nowSeconds - seconds) <= toleranceSeconds) return undefined;
  return `the time of the signature is more than ${toleranceSeconds} s away from the gateway's clock`;
}
