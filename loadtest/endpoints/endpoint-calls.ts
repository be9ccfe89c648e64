/** Calls of the endpoints API, repeated until a private API has carried them out. */
import { setTimeout as pause } from "node:timers/promises";
import { call, type PrivateApiAddress, problem } from "../checker/private-api.ts";

const retryMs = 100;
/** A private API takes a minute to start on a busy machine. */
const withinMs = 240_000;

/** @param path where its requests go: another one for each try, because one that failed may have created an endpoint all the same */
export async function createEndpoint(
  apis: readonly PrivateApiAddress[],
  endpoint: { channels: readonly string[]; key: string; timeoutMs: number },
  given: { path: string; urlOf: (path: string) => string },
): Promise<{ id: string; path: string; secret: string }> {
  return untilDone(apis, "an endpoint cannot be created", async (api, tries) => {
    const path = `${given.path}/${tries}`;
    const answer = await call(api, "/v1/endpoints", { ...endpoint, url: given.urlOf(path) });
    const { id, secrets: [secret] = [] } = answer.body as { id?: string; secrets?: string[] };
    if (id === undefined || secret === undefined) throw new Error(problem(answer));
    return { id, path, secret };
  });
}

export async function setEndpoint(
  apis: readonly PrivateApiAddress[],
  id: string,
  order: "pause" | "resume",
): Promise<void> {
  await untilDone(apis, `${order} of ${id} failed`, async (api) => {
    const answer = await call(api, `/v1/endpoints/${id}/${order}`, {});
    if (answer.status !== 200) throw new Error(problem(answer));
  });
}

/** Asks the private APIs in turn. @throws where the time is up */
export async function untilDone<Result>(
  apis: readonly PrivateApiAddress[],
  failure: string,
  ask: (api: PrivateApiAddress, tries: number) => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + withinMs;
  for (let tries = 0; ; tries++) {
    try {
      return await ask(apis[tries % apis.length] ?? { url: "", token: "" }, tries);
    } catch (error) {
      if (performance.now() > deadline) throw new Error(failure, { cause: error });
      await pause(retryMs);
    }
  }
}
