/** GitHub: `x-hub-signature-256: sha256=<hex>` of the body. https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries */
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, noMatch, textKey } from "./signatures.ts";

export const github: Scheme = {
  keyOf: textKey,
  refusal({ headers, body }, keys) {
    const [, hex] = /^sha256=([0-9a-f]{64})$/.exec(headerOf(headers, "x-hub-signature-256") ?? "") ?? [];
    if (hex === undefined) return "the header x-hub-signature-256 is missing, or is not sha256= and 64 hex digits";
    return isSigned([Buffer.from(hex, "hex")], { keys, algorithm: "sha256", parts: [body] }) ? undefined : noMatch;
  },
};
