/** Signatures after the Standard Webhooks specification (standardwebhooks.com), symmetric scheme `v1`. */
import { createHmac } from "node:crypto";

const secretPrefix = "whsec_";

export interface WebhookHeaders {
  "webhook-id": string;
  /** Unix seconds. */
  "webhook-timestamp": string;
  /** `v1,<base64>`, one for each secret, separated by spaces. */
  "webhook-signature": string;
}

/** @param secrets `whsec_` and base64; several during rotation, each signs. */
export function signWebhook(id: string, body: string, secrets: readonly string[], now: Date): WebhookHeaders {
  const timestamp = Math.floor(now.getTime() / 1000).toString();
  const signed = `${id}.${timestamp}.${body}`;
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(secretPrefix.length), "base64");
    return `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
  });
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
}
