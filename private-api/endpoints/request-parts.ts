/** What the requests to an endpoint have in common: worked out once for each version of it. */
import type { KeyObject } from "node:crypto";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { secretKey } from "../../shared/endpoints/secrets.ts";
import { type Target, targetOf } from "../../shared/services/exchange.ts";

interface SigningKey {
  readonly webhookKey: KeyObject;
  /** Unix ms. */
  readonly expiresAt: number;
}

export interface RequestParts {
  readonly target: Target;
  /** Those that do not depend on what is sent: names and values in turn. */
  readonly headers: readonly string[];
  keysAt(nowMs: number): readonly SigningKey[];
}

const known = new WeakMap<Endpoint, RequestParts>();

/** @param endpoint must not change: the result is cached by this object */
export function requestParts(endpoint: Endpoint): RequestParts {
  let parts = known.get(endpoint);
  if (!parts) {
    parts = partsOf(endpoint);
    known.set(endpoint, parts);
  }
  return parts;
}

function partsOf({ url, headers, secrets }: Endpoint): RequestParts {
  const keys = secrets.flatMap(({ secret, expiresAt = Infinity }) => {
    const webhookKey = secretKey(secret);
    return webhookKey ? [{ webhookKey, expiresAt }] : [];
  });
  const mayExpire = keys.some(({ expiresAt }) => expiresAt < Infinity);
  return {
    target: targetOf(url),
    headers: Object.entries({
      ...headers,
      "content-type": "application/json",
      "accept-encoding": "identity",
      "user-agent": "tidegate",
    }).flat(),
    keysAt: (nowMs) => (mayExpire ? keys.filter(({ expiresAt }) => expiresAt > nowMs) : keys),
  };
}
