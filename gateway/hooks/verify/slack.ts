/** Slack: `x-slack-signature: v0=<hex>` of `v0:<time>:<body>`. https://docs.slack.dev/authentication/verifying-requests-from-slack */
import { defaultToleranceSeconds } from "../../../shared/rules/sources.ts";
import { parseJson } from "../../../shared/json/json.ts";
import type { Scheme } from "./scheme.ts";
import { headerOf, isSigned, noMatch, staleness, textKey } from "./signatures.ts";

export const slack: Scheme = {
  keyOf: textKey,
  refusal({ headers, body, nowSeconds }, keys) {
    const timestamp = headerOf(headers, "x-slack-request-timestamp");
    const stale = staleness(timestamp, { nowSeconds, toleranceSeconds: defaultToleranceSeconds });
    if (stale !== undefined) return stale;
    const [, hex] = /^v0=([0-9a-f]{64})$/.exec(headerOf(headers, "x-slack-signature") ?? "") ?? [];
    if (hex === undefined) return "the header x-slack-signature is missing, or is not v0= and 64 hex digits";
    const parts = [`v0:${timestamp}:`, body];
    return isSigned([Buffer.from(hex, "hex")], { keys, algorithm: "sha256", parts }) ? undefined : noMatch;
  },
};

/** Such a request has a token, a challenge and a type. */
const maxVerificationBytes = 4_096;

/** @param json valid JSON. @returns the challenge of a request by which Slack checks the address; undefined for any other. */
export function slackChallenge(json: Buffer): string | undefined {
  if (json.length > maxVerificationBytes) return undefined;
  const { type, challenge } = (parseJson(json.toString("utf8")) ?? {}) as { type?: unknown; challenge?: unknown };
  return type === "url_verification" && typeof challenge === "string" ? challenge : undefined;
}
