/** Meta (Messenger, Instagram, WhatsApp): signs as GitHub does. https://developers.facebook.com/docs/graph-api/webhooks/getting-started */
import { createHash, timingSafeEqual } from "node:crypto";
import { github } from "./github.ts";
import type { Scheme } from "./scheme.ts";

export const meta: Scheme = github;

/** Providers send about ten digits. */
const challengePattern = /^[\x21-\x7e]{1,256}$/;

/**
 * Answers the GET request by which Meta checks the address.
 * @returns the challenge; undefined where the request is none, or its token is wrong
 */
export function metaChallenge(query: URLSearchParams, verifyToken: string): string | undefined {
  const challenge = query.get("hub.challenge") ?? "";
  const isToken = timingSafeEqual(digestOf(query.get("hub.verify_token") ?? ""), digestOf(verifyToken));
  return isToken && query.get("hub.mode") === "subscribe" && challengePattern.test(challenge) ? challenge : undefined;
}

function digestOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
