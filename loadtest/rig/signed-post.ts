/** A POST to an endpoint with undici: nothing of Tidegate but its signature. */
import type { Agent } from "undici";
import { newSecret, secretKey } from "../../shared/endpoints/secrets.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";

const webhookKey = secretKey(newSecret());

/** With the headers of a delivery. */
export async function signedPost(agent: Agent, url: URL, id: string, text: string): Promise<void> {
  if (!webhookKey) throw new Error("a new secret has no key");
  const headers = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "user-agent": "tidegate",
    ...signWebhook(id, text, [{ webhookKey }], new Date()),
    "tidegate-attempt": "1",
    "tidegate-key": "load:bare",
    "tidegate-sequence": "00000000000000000001",
  };
  const answer = await agent.request({ origin: url.origin, path: url.pathname, method: "POST", headers, body: text });
  await answer.body.dump();
}
