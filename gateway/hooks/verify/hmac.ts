/** Any other provider that signs by HMAC, as its rule describes. */
import { defaultToleranceSeconds, type HmacRule, templatePieces } from "../../../shared/rules/sources.ts";
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, maxSignatures, noMatch, staleness, textKey } from "./signatures.ts";

/** `sha256=` or `v0=` may precede a signature. */
const label = /^(sha\d{1,3}|v\d)=/;

export function hmac(rule: HmacRule): Scheme {
  const { algorithm = "sha256", encoding = "hex", signed = "{body}", toleranceSeconds } = rule;
  const header = rule.header.toLowerCase();
  const timeHeader = rule.timestamp?.replace(/^header:/, "").toLowerCase();
  const pieces = templatePieces(signed);
  return {
    keyOf: textKey,
    refusal({ headers, body, nowSeconds }, keys) {
      const timestamp = timeHeader === undefined ? undefined : headerOf(headers, timeHeader);
      const tolerance = { nowSeconds, toleranceSeconds: toleranceSeconds ?? defaultToleranceSeconds };
      const stale = timeHeader === undefined ? undefined : staleness(timestamp, tolerance);
      if (stale !== undefined) return stale;
      const signatures = (headerOf(headers, header) ?? "")
        .split(/[ ,]/, maxSignatures)
        .map((entry) => Buffer.from(entry.replace(label, ""), encoding));
      const parts = pieces.map((piece) => {
        if ("text" in piece) return piece.text;
        if (piece.placeholder === "body") return body;
        if (piece.placeholder === "timestamp") return timestamp ?? "";
        return headerOf(headers, piece.placeholder.slice("header:".length).toLowerCase()) ?? "";
      });
      return isSigned(signatures, { keys, algorithm, parts }) ? undefined : noMatch;
    },
  };
}
