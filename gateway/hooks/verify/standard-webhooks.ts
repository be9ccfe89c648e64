/** Standard Webhooks: `webhook-signature: v1,<base64>` of `<id>.<time>.<body>`. https://www.standardwebhooks.com */
import { createSecretKey } from "node:crypto";
import { defaultToleranceSeconds } from "../../../shared/rules/sources.ts";
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, maxSignatures, noMatch, staleness } from "./signatures.ts";

const prefix = "whsec_";

export const standardWebhooks: Scheme = {
  /** Base64, with `whsec_` before it or not. */
  keyOf(secret) {
    const base64 = secret.startsWith(prefix) ? secret.slice(prefix.length) : secret;
    return /^[A-Za-z0-9+/]+={0,2}$/.test(base64) ? createSecretKey(Buffer.from(base64, "base64")) : undefined;
  },
  refusal({ headers, body, nowSeconds }, keys) {
    const id = headerOf(headers, "webhook-id");
    if (id === undefined) return "the header webhook-id is missing";
    const timestamp = headerOf(headers, "webhook-timestamp");
    const stale = staleness(timestamp, { nowSeconds, toleranceSeconds: defaultToleranceSeconds });
    if (stale !== undefined) return stale;
    const signatures = (headerOf(headers, "webhook-signature") ?? "")
      .split(" ", maxSignatures)
      .flatMap((entry) => (entry.startsWith("v1,") ? [Buffer.from(entry.slice("v1,".length), "base64")] : []));
    const parts = [`${id}.${timestamp}.`, body];
    return isSigned(signatures, { keys, algorithm: "sha256", parts }) ? undefined : noMatch;
  },
};
