/** Calls to the private API of a deployment under load. */
import type { Deployment } from "./fleet.ts";

type PrivateApi = Pick<Deployment, "privateApi" | "privateApiToken">;

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

export async function putRules(deployment: PrivateApi, rules: object): Promise<void> {
  await callPrivateApi(deployment, "PUT", "/v1/rules", rules);
}
