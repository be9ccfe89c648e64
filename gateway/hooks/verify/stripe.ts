/** Stripe: `stripe-signature: t=<time>,v1=<hex>` of `<time>.<body>`. https://docs.stripe.com/webhooks/signature */
import { defaultToleranceSeconds } from "../../../shared/rules/sources.ts";
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, maxSignatures, noMatch, staleness, textKey } from "./signatures.ts";

export const stripe: Scheme = {
  /** The whole secret signs, `whsec_` included. */
  keyOf: textKey,
  refusal({ headers, body, nowSeconds }, keys) {
    const entries = (headerOf(headers, "stripe-signature") ?? "").split(",", 2 * maxSignatures);
    const timestamp = entries.find((entry) => entry.startsWith("t="))?.slice("t=".length);
    const stale = staleness(timestamp, { nowSeconds, toleranceSeconds: defaultToleranceSeconds });
    if (stale !== undefined) return stale;
    const signatures = entries.flatMap((entry) =>
      /^v1=[0-9a-f]{64}$/.test(entry) ? [Buffer.from(entry.slice("v1=".length), "hex")] : [],
    );
    return isSigned(signatures, { keys, algorithm: "sha256", parts: [`${timestamp}.`, body] }) ? undefined : noMatch;
  },
};
