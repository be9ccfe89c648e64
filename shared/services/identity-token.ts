/**
 * A JWT that identifies the calling user to a service. Signed here because the JWT library uses WebCrypto's thread pool, which
 * costs more than the rest of a call (docs/decisions/signing.md).
 */
import { createHmac, type KeyObject } from "node:crypto";

export interface Identity {
  user: string;
  sessionId: string;
  tenant?: string;
  /** The verified claims of the client's own token. */
  claims: Record<string, unknown>;
}

const header = encode({ alg: "HS256", typ: "JWT" });

/** HS256; `aud` is the service's name. */
export function signIdentity(
  identity: Identity,
  options: { key: KeyObject; service: string; now: Date; lifetimeSeconds: number },
): string {
  const { user, sessionId, tenant, claims } = identity;
  const iat = Math.floor(options.now.getTime() / 1000);
  const exp = iat + options.lifetimeSeconds;
  const payload = encode({ sub: user, sid: sessionId, tenant, claims, aud: options.service, iat, exp });
  const signed = `${header}.${payload}`;
  return `${signed}.${createHmac("sha256", options.key).update(signed).digest("base64url")}`;
}

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString("base64url");
}
