/** Sends webhooks as providers do. */
import { createHmac } from "node:crypto";

export interface HookReply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Of a problem. */
  readonly code: string | undefined;
}

export interface SentHook {
  readonly body?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
}

/** @param path after `/hooks/`. */
export async function sendHook(gatewayUrl: string, path: string, sent: SentHook = {}): Promise<HookReply> {
  const { body, headers = {}, method = "POST" } = sent;
  const answer = await fetch(`${gatewayUrl}/hooks/${path}`, {
    method,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    ...(body !== undefined && { body }),
    redirect: "manual",
  });
  const text = await answer.text();
  const isProblem = answer.headers.get("content-type")?.startsWith("application/problem+json") === true;
  const code = isProblem ? (JSON.parse(text) as { code: string }).code : undefined;
  return { status: answer.status, headers: answer.headers, text, code };
}

/** As GitHub and Meta sign. */
export function githubSigned(secret: string, body: string | Buffer): Record<string, string> {
  return { "x-hub-signature-256": `sha256=${createHmac("sha256", secret).update(body).digest("hex")}` };
}

export function slackSigned(
  secret: string,
  body: string,
  atSeconds = Math.floor(Date.now() / 1_000),
): Record<string, string> {
  const signature = createHmac("sha256", secret).update(`v0:${atSeconds}:${body}`).digest("hex");
  return { "x-slack-request-timestamp": String(atSeconds), "x-slack-signature": `v0=${signature}` };
}
