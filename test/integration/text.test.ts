/** What becomes of text on its way: kept as it was sent, or refused, never altered. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { readGatewayConfig } from "../../gateway/config.ts";
import { type ApiAnswer, type Fleet, jwtSecret, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let service: HttpService;
let fleet: Fleet;

beforeAll(async () => {
  service = await startService();
  service.answer = (_request, response) => answerJson(response, {});
  fleet = await startFleet({
    rules: {
      services: { app: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "card.*", service: "app", path: "/{event}", mode: "call" }],
    },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

/** JSON as it is written, whatever it spells. */
async function post(path: string, text: string): Promise<ApiAnswer> {
  return fleet.api("POST", path, undefined, { text });
}

const half = "\\ud800";

test.each([
  ["a publish's id", "/v1/publish", `{"channel":"board:1","event":"moved","data":1,"id":"${half}"}`],
  ["an ephemeral publish's id", "/v1/publish", `{"channel":"b:1","event":"e","data":1,"history":false,"id":"${half}"}`],
  ["an epoch", "/v1/publish", `{"channel":"b:1","event":"e","data":1,"expect":{"epoch":"${half}","offset":0}}`],
  ["a session's id", "/v1/users/ada/disconnect", `{"sessionId":"${half}"}`],
  ["a reason", "/v1/users/ada/disconnect", `{"reason":"${half}"}`],
  ["a user's name", "/v1/users/%ED%A0%80/send", `{"event":"note","data":1}`],
  ["a tenant's name", "/v1/users/ada/send?tenant=%ED%A0%80", `{"event":"note","data":1}`],
])("TEXT-1: half a surrogate pair is refused in %s", async (_what, path, text) => {
  const answer = await post(path, text);
  expect(answer.status).toBe(400);
  expect(answer.body).toMatchObject({ code: "invalid_request" });
});

test("TEXT-1: half a surrogate pair is refused in an item of a batch, which alone fails", async () => {
  const item = (id: string): string => `{"channel":"board:batch","event":"moved","data":1,"id":"${id}"}`;
  const answer = await post("/v1/publish/batch", `[${[half, "\\ud83d\\ude80", "\\udc00"].map(item).join(",")}]`);
  const refused = {
    error: { code: "invalid_request", message: expect.stringContaining("id: must be well-formed") as string },
  };
  expect(JSON.parse(answer.text)).toMatchObject([refused, { offset: 1 }, refused]);
});

test("TEXT-1: half a surrogate pair is refused in the id of a call and in users of a rollout", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  expect(await client.request("card.move", {}, { id: "\ud800" })).toMatchObject({ error: { code: "invalid_request" } });
  expect(service.requests).toHaveLength(0);
  const groups = `[{"name":"a","percent":1,"users":["${half}"]}]`;
  const put = await fleet.api("PUT", "/v1/rollouts", undefined, {
    text: `{"groups":${groups},"fallback":{"name":"b"}}`,
  });
  expect(put.status).toBe(400);
});

test("TEXT-1: a node is not named by what is no text", () => {
  const name = (GATEWAY_NODE: string) => () =>
    readGatewayConfig({ PRIVATE_API_TOKEN: "t", AUTH_JWT_SECRET: jwtSecret, GATEWAY_NODE }, { embedded: true });
  // Bytes of the environment that are not UTF-8 arrive as U+FFFD.
  for (const bad of ["node\ufffd", "\ud800", "a\nb", "a".repeat(129)]) expect(name(bad)).toThrow("GATEWAY_NODE");
  expect(name("Knoten ä 🚀")().GATEWAY_NODE).toBe("Knoten ä 🚀");
});
