/** Signatures after the Standard Webhooks specification (standardwebhooks.com), symmetric scheme `v1`. */
import { createHmac } from "node:crypto";
import type { ServiceSecret } from "../rules/service-secret.ts";

export interface WebhookHeaders {
  "webhook-id": string;
  /** Unix seconds. */
  "webhook-timestamp": string;
  /** `v1,<base64>`, one for each secret, separated by spaces. */
  "webhook-signature": string;
}

/** @param secrets several during rotation; each of them signs. */
export function signWebhook(
  id: string,
  body: string | Buffer,
  secrets: readonly Pick<ServiceSecret, "webhookKey">[],
  now: Date,
): WebhookHeaders {
  const timestamp = Math.floor(now.getTime() / 1000).toString();
  const head = `${id}.${timestamp}.`;
  const signatures = secrets.map(
    ({ webhookKey }) => `v1,${createHmac("sha256", webhookKey).update(head).update(body).digest("base64")}`,
  );
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
}
