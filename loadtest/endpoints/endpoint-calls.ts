/** Calls of the endpoints API, repeated until a private API has carried them out. */
import { setTimeout as pause } from "node:timers/promises";
import { call, type PrivateApiAddress, problem } from "../checker/private-api.ts";

const retryMs = 100;
/** A private API takes a minute to start on a busy machine. */
const withinMs = 120_000;

/** @returns the id, and the secret of its signatures */
export async function createEndpoint(
  api: PrivateApiAddress,
  endpoint: { url: string; channels: readonly string[]; key: string; timeoutMs: number },
): Promise<{ id: string; secret: string }> {
  const answer = await call(api, "/v1/endpoints", endpoint);
  const { id, secrets } = answer.body as { id?: string; secrets?: string[] };
  const [secret] = secrets ?? [];
  if (id === undefined || secret === undefined) throw new Error(`the endpoint is refused: ${problem(answer)}`);
  return { id, secret };
}

/** @param apis asked in turn */
export async function setEndpoint(
  apis: readonly PrivateApiAddress[],
  id: string,
  order: "pause" | "resume",
): Promise<void> {
  const deadline = performance.now() + withinMs;
  let last = "no private API";
  for (let tries = 0; performance.now() < deadline; tries++) {
    const api = apis[tries % apis.length];
    const answer = api && (await call(api, `/v1/endpoints/${id}/${order}`, {}).catch(() => undefined));
    if (answer?.status === 200) return;
    last = answer ? problem(answer) : "no answer";
    await pause(retryMs);
  }
  throw new Error(`${order} of ${id} failed: ${last}`);
}
