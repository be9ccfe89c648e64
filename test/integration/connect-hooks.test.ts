/** The connect hook and the subscribe hook: what they are asked, and what their answers decide. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { linesWith } from "../support/log-lines.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

afterEach(closeClients);

let fleet: Fleet;
let service: HttpService;

beforeAll(async () => {
  service = await startService();
  fleet = await startFleet({
    rules: {
      services: { documents: { url: service.url, secret: serviceSecret } },
      hooks: { connect: "documents", subscribe: "documents" },
    },
  });
});
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

test("HOOK-1: the connect hook gets the user and client, and may add channels", async () => {
  service.answer = (_request, response) => answerJson(response, { channels: ["team:7"] });
  const client = await connectClient(fleet.urls[0] ?? "", { role: "editor" });
  const asked = service.requests.at(-1);
  expect(asked?.path).toBe("/tidegate/connect");
  expect(asked?.headers["ce-type"]).toBe("tidegate.connect");
  expect(JSON.parse(asked?.body ?? "")).toEqual({
    sessionId: client.welcome.sessionId,
    user: "ada",
    claims: expect.objectContaining({ sub: "ada", role: "editor" }) as object,
    address: "127.0.0.1",
    userAgent: expect.any(String) as string,
  });
  service.answer = (_request, response) => answerJson(response, {}, 500);
  await client.subscribe("team:7");
  await client.subscribe("board:7");
});

test.for([
  [401, "auth_unavailable"],
  [403, "forbidden"],
  [404, "auth_unavailable"],
  [500, "auth_unavailable"],
] as const)("HOOK-2: a connect hook that answers %i refuses with %s", async ([status, code]) => {
  service.answer = (_request, response) => answerJson(response, {}, status);
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  expect(refusal).toMatchObject({ code, retryable: code === "auth_unavailable" });
});

test("HOOK-7: a hook's 403 passes its code and message on, which are no label of metrics", async () => {
  service.answer = (_request, response) => answerJson(response, { code: "banned", message: "until Monday" }, 403);
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  expect(refusal).toMatchObject({ code: "banned", message: "until Monday", retryable: false });
  service.answer = (_request, response) => answerJson(response, {});
  const client = await connectClient(fleet.urls[0] ?? "");
  service.answer = (_request, response) => answerJson(response, { code: "not_a_member", message: "ask Grace" }, 403);
  const { error } = await client.request("sync:subscribe", { channel: "secret:plans" });
  expect(error).toMatchObject({ code: "not_a_member", message: "ask Grace", retryable: false });
  expect(await metricOf(fleet.gateways[0], 'connects_total{outcome="forbidden"}')).toBeGreaterThan(0);
  expect(await metricOf(fleet.gateways[0], 'connects_total{outcome="banned"}')).toBe(0);
});

test("HOOK-2: a hook's 401 is logged as a request that its service does not accept", async () => {
  service.answer = (_request, response) => answerJson(response, { code: "who", message: "no signature" }, 401);
  const { requestId } = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  const line = linesWith(fleet.log(), "a request to a service failed").find((each) => each["requestId"] === requestId);
  expect(line).toMatchObject({ service: "documents", event: "tidegate.connect", status: 401 });
  expect(line?.["cause"]).toContain("check its secret");
});

test("HOOK-3: the subscribe hook decides on channels that neither token nor namespace allows", async () => {
  service.answer = (_request, response) => answerJson(response, {});
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe("secret:plans");
  const asked = service.requests.at(-1);
  expect(asked?.path).toBe("/tidegate/subscribe");
  const { sessionId } = client.welcome;
  expect(JSON.parse(asked?.body ?? "")).toMatchObject({ sessionId, user: "ada", channel: "secret:plans" });
  for (const [status, code] of [
    [403, "channel_not_allowed"],
    [401, "upstream_unavailable"],
    [404, "upstream_unavailable"],
    [500, "upstream_unavailable"],
  ] as const) {
    service.answer = (_request, response) => answerJson(response, {}, status);
    const ack = await client.request("sync:subscribe", { channel: "secret:other" });
    expect(ack.error).toMatchObject({ code, retryable: status !== 403 });
  }
});

test("HOOK-5: a 2xx that is no hook answer, such as a proxy's page, allows nothing", async () => {
  service.answer = (_request, response) => response.end("<html>login</html>");
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  expect(refusal.code).toBe("auth_unavailable");
  service.answer = (_request, response) => response.writeHead(204).end();
  const client = await connectClient(fleet.urls[0] ?? "");
  service.answer = (_request, response) => response.end("<html>login</html>");
  const ack = await client.request("sync:subscribe", { channel: "secret:page" });
  expect(ack.error?.code).toBe("upstream_unavailable");
});

test("CON-6: a refresh while the hook decides on a channel leaves the decision to the hook", async () => {
  const { promise: asked, resolve } = Promise.withResolvers<() => void>();
  service.answer = (_request, response) => answerJson(response, {});
  const client = await connectClient(fleet.urls[0] ?? "");
  service.answer = (request, response) => {
    if (request.path === "/tidegate/connect") answerJson(response, {});
    else resolve(() => answerJson(response, {}));
  };
  const subscribing = client.request("sync:subscribe", { channel: "secret:refresh" });
  const decide = await asked;
  expect((await client.request("sync:refresh", { token: await userToken() })).ok).toBe(true);
  decide();
  expect((await subscribing).ok).toBe(true);
  expect(client.received).toEqual([]);
});

test("HOOK-4: a subscription that ends while its hook decides never becomes live", async () => {
  const { promise: asked, resolve } = Promise.withResolvers<() => void>();
  service.answer = (_request, response) => answerJson(response, {});
  const client = await connectClient(fleet.urls[0] ?? "");
  service.answer = (_request, response) => resolve(() => answerJson(response, {}));
  const subscribing = client.request("sync:subscribe", { channel: "secret:slow" });
  const decide = await asked;
  expect((await client.request("sync:unsubscribe", { channel: "secret:slow" })).ok).toBe(true);
  decide();
  expect((await subscribing).error?.code).toBe("not_subscribed");
  await fleet.api("POST", "/v1/publish", { channel: "secret:slow", event: "x", data: 1 });
  await fleet.api("POST", "/v1/users/ada/send", { event: "after", data: 1 });
  await client.next((item) => item.event === "after");
  expect(client.received).toHaveLength(1);
});
