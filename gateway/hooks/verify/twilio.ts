/**
 * Twilio: `x-twilio-signature: <base64>` of the URL and the fields of the form, sorted; other bodies by their digest in the URL.
 * https://www.twilio.com/docs/usage/security
 */
import { createHash } from "node:crypto";
import type { Scheme, SignedRequest } from "./scheme.ts";
import { headerOf, isSigned, noMatch, textKey } from "./signatures.ts";
import { isForm, parseForm } from "../content.ts";

export const twilio: Scheme = {
  keyOf: textKey,
  refusal(request, keys) {
    const base64 = headerOf(request.headers, "x-twilio-signature");
    if (base64 === undefined) return "the header x-twilio-signature is missing";
    const signatures = [Buffer.from(base64, "base64")];
    const text = signedFields(request);
    if (text === undefined) return "the body is neither a form nor the one whose digest is in the URL (bodySHA256)";
    const isGenuine = request
      .urls()
      .flatMap(spellings)
      .some((url) => isSigned(signatures, { keys, algorithm: "sha1", parts: [url, text] }));
    return isGenuine ? undefined : `${noMatch}; the URL is signed, too: set PUBLIC_URL to what Twilio calls`;
  },
};

/** What follows the URL in the signed text. */
function signedFields({ headers, body, urls }: SignedRequest): string | undefined {
  if (isForm(headers)) {
    const valuesOf = new Map<string, Set<string>>();
    // One pass over the fields: a look for the values of each name takes eight times as long where a forged form has 1,000 names.
    for (const [name, value] of parseForm(body)) valuesOf.set(name, (valuesOf.get(name) ?? new Set()).add(value));
    const names = [...valuesOf.keys()].sort();
    return names.flatMap((name) => [...(valuesOf.get(name) ?? [])].sort().map((value) => name + value)).join("");
  }
  const digest = createHash("sha256").update(body).digest("hex");
  const [url = ""] = urls();
  return URL.parse(url)?.searchParams.get("bodySHA256") === digest ? "" : undefined;
}

/** Twilio signs the port of the URL in some products and leaves it out in others. */
function spellings(url: string): string[] {
  const [, scheme = "", host = "", port, rest = ""] =
    /^(https?):\/\/(\[[^\]]*\]|[^/:?]*)(?::(\d+))?(.*)$/.exec(url) ?? [];
  const standardPort = scheme === "https" ? "443" : "80";
  return [`${scheme}://${host}${rest}`, `${scheme}://${host}:${port ?? standardPort}${rest}`];
}
