/** Calls to the private API of a deployment under load. */
import { setTimeout as pause } from "node:timers/promises";

interface PrivateApi {
  /** Its URL. */
  readonly privateApi: string;
  readonly privateApiToken: string;
}

/** @returns the answer's JSON. Throws where the answer is not 2xx. */
export async function callPrivateApi(
  { privateApi, privateApiToken }: PrivateApi,
  method: string,
  path: string,
  body: unknown,
): Promise<unknown> {
  const answer = await fetch(privateApi + path, {
    method,
    headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

/** Also while Redis is too busy to answer: a start must not fail for that. */
const putWithinMs = 60_000;
const putAgainMs = 500;

export async function putRules(deployment: PrivateApi, rules: object): Promise<void> {
  const deadline = performance.now() + putWithinMs;
  for (;;) {
    try {
      return void (await callPrivateApi(deployment, "PUT", "/v1/rules", rules));
    } catch (error) {
      if (!String(error).includes("broker_unavailable") || performance.now() > deadline) throw error;
    }
    await pause(putAgainMs);
  }
}
