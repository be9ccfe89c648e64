import { createSecretKey, type KeyObject } from "node:crypto";

const prefix = "whsec_";
const minKeyBytes = 32;

/** A secret shared with a service, with its two keys prepared once. */
export interface ServiceSecret {
  /** Signs bodies: the decoded base64. */
  webhookKey: KeyObject;
  /** Signs identities: the secret's text as written, so that a service can pass the same string to both libraries. */
  identityKey: KeyObject;
}

/** @param written `whsec_` and the base64 of at least 32 bytes; otherwise the result is undefined. */
export function readServiceSecret(written: string): ServiceSecret | undefined {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(written)) return undefined;
  const key = Buffer.from(written.slice(prefix.length), "base64");
  if (key.length < minKeyBytes) return undefined;
  return { webhookKey: createSecretKey(key), identityKey: createSecretKey(Buffer.from(written)) };
}
