/** Shopify: `x-shopify-hmac-sha256: <base64>` of the body. https://shopify.dev/docs/apps/build/webhooks/subscribe/https */
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, noMatch, textKey } from "./signatures.ts";

export const shopify: Scheme = {
  keyOf: textKey,
  refusal({ headers, body }, keys) {
    const base64 = headerOf(headers, "x-shopify-hmac-sha256");
    if (base64 === undefined) return "the header x-shopify-hmac-sha256 is missing";
    const signatures = [Buffer.from(base64, "base64")];
    return isSigned(signatures, { keys, algorithm: "sha256", parts: [body] }) ? undefined : noMatch;
  },
};
