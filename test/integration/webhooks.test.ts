/** Webhooks: from a provider's POST to the service, over two gateways and a real Redis. */
import { createHmac } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Webhook } from "standardwebhooks";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { githubSigned, type HookReply, sendHook, type SentHook, slackSigned } from "../support/hook-sender.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { openRaw, requestHead } from "../support/raw-http.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let fleet: Fleet;
let service: HttpService;

const secret = "the secret of a source, shared with its provider";
const secrets = ["env:HOOK_SECRET"];
const retry = { attempts: 2, minMs: 1, maxMs: 5 };
const route = { service: "hooks", path: "/in/{event}", mode: "enqueue", retry };

beforeAll(async () => {
  [redis, service] = await Promise.all([startRedis(), startService()]);
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { HOOK_SECRET: secret, OLD_SECRET: "the secret before", VERIFY_TOKEN: "token" },
    rules: {
      classes: { fast: { share: 4 }, stats: { whenFull: "drop" } },
      quotas: { perTenant: 1_000, perSource: 30 },
      services: {
        hooks: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 },
        hasty: { url: service.url, secret: serviceSecret, timeoutMs: 1_000 },
        nowhere: { url: "http://127.0.0.1:1", secret: serviceSecret },
      },
      routes: [
        { ...route, event: "ci.push", key: "/routeKey", class: "stats" },
        { ...route, event: "plain" },
        { ...route, event: "counted", class: "stats" },
        { ...route, event: "batched", batch: 5 },
        { event: "command", service: "hooks", path: "/command", mode: "call" },
        { event: "hasty", service: "hasty", path: "/command", mode: "call" },
        { event: "lost", service: "nowhere", path: "/lost", mode: "call" },
      ],
      sources: {
        github: {
          ...{ verify: "github", secrets, route: "ci.push", class: "fast" },
          ...{ key: "body:/repository/id", id: "header:x-github-delivery", tenant: "path:1" },
        },
        twin: { verify: "none", route: "plain", id: "header:x-github-delivery" },
        meta: {
          ...{ verify: "meta", secrets: ["env:HOOK_SECRET", "env:OLD_SECRET"], verifyToken: "env:VERIFY_TOKEN" },
          ...{ split: ["/entry", "/messaging"], key: "body:/sender/id", tenant: "body:/recipient/id" },
          ...{ id: "body:/mid", route: "plain", answer: 200 },
        },
        open: { verify: "none", route: "plain", key: "query:key" },
        form: { verify: "none", route: "plain", key: "body:From", id: "body:Sid" },
        slash: { verify: "slack", secrets, route: "command" },
        hasty: { verify: "slack", secrets, route: "hasty" },
        brittle: { verify: "none", route: "lost" },
        tough: { verify: "none", route: "lost", fallback: "enqueue", answer: 204, id: "header:x-id" },
        few: { verify: "none", route: "plain", tenant: "path:1" },
        dropped: { verify: "none", route: "counted" },
        batch: { verify: "none", route: "batched" },
        many: { verify: "none", route: "plain", split: ["/parts"] },
        droppedParts: { verify: "none", route: "counted", split: ["/parts"] },
      },
    },
  });
});
beforeEach(() => {
  service.answer = (_request, response) => answerJson(response, {});
});
afterAll(async () => {
  await fleet.stop();
  await Promise.all([redis.stop(), service.stop()]);
});

let markers = 0;
function newMarker(): string {
  return `marker-${++markers}`;
}

function arrived(marker: string): ServiceRequest[] {
  return service.requests.filter(({ body }) => body.includes(marker));
}

async function send(path: string, sent: SentHook = {}, gateway = 0): Promise<HookReply> {
  return sendHook(fleet.urls[gateway] ?? "", path, sent);
}

async function sendSigned(body: string, headers: Record<string, string> = {}, gateway = 0): Promise<HookReply> {
  return send("github/acme", { body, headers: { ...githubSigned(secret, body), ...headers } }, gateway);
}

/** The service answers nothing until `release`. */
function holdAnswers(): { release: () => void } {
  const held: (() => void)[] = [];
  service.answer = (_request, response) => void held.push(() => answerJson(response, {}));
  return {
    release: () => {
      service.answer = (_request, response) => answerJson(response, {});
      for (const answer of held) answer();
    },
  };
}

let deliveries = 0;
function delivery(): Record<string, string> {
  return { "x-github-delivery": `delivery-${++deliveries}` };
}

test("SRC-1: a webhook becomes the event of its route, with the source as source and subject", async () => {
  const marker = newMarker();
  const body = `{ "repository": {"id": 12345678901234567890},\n "marker":"${marker}" }`;
  expect((await sendSigned(body, delivery())).status).toBe(202);
  await eventually(() => arrived(marker).length === 1);
  const [request] = arrived(marker);
  const source = "/tidegate/hooks/github";
  expect(request).toMatchObject({
    path: "/in/ci.push",
    body,
    headers: {
      "content-type": "application/json",
      "ce-type": "ci.push",
      "ce-source": source,
      "ce-subject": source,
      "ce-session": source,
      "ce-tenant": "acme",
      "ce-partitionkey": "12345678901234567890",
      "ce-sequence": expect.stringMatching(/^\d{20}$/) as string,
      "tidegate-attempt": "1",
    },
  });
  new Webhook(serviceSecret.slice("whsec_".length)).verify(body, request?.headers as Record<string, string>);
});

test("SRC-2: the answer has the source's status and no body, and a duplicate gets the same", async () => {
  const marker = newMarker();
  const body = JSON.stringify({ repository: { id: 1 }, marker });
  const headers = delivery();
  const answers = [await sendSigned(body, headers), await sendSigned(body, headers, 1)];
  for (const answer of answers) expect([answer.status, answer.text]).toEqual([202, ""]);
  const last = newMarker();
  await sendSigned(JSON.stringify({ repository: { id: 1 }, marker: last }), delivery());
  await eventually(() => arrived(last).length === 1);
  expect(arrived(marker)).toHaveLength(1);
  expect(await metricOf(fleet.gateways[1], 'webhooks_total{source="github",outcome="duplicate"}')).toBe(1);
});

test("SRC-3: key and class of the source win over those of the route; without a key it is the source", async () => {
  const marker = newMarker();
  const gate = Promise.withResolvers<undefined>();
  service.answer = (_request, response) => void gate.promise.then(() => answerJson(response, {}));
  await sendSigned(JSON.stringify({ repository: { id: "r" }, routeKey: "other", marker }), delivery());
  await eventually(() => arrived(marker).length === 1);
  expect(arrived(marker)[0]?.headers["ce-partitionkey"]).toBe("r");
  const { body } = await fleet.api("GET", "/v1/queues");
  expect(body["classes"]).toContainEqual(expect.objectContaining({ class: "fast", inFlight: 1 }));
  const other = newMarker();
  gate.resolve(undefined);
  await send("twin", { body: JSON.stringify({ marker: other }), headers: delivery() });
  await eventually(() => arrived(other).length === 1);
  expect(arrived(other)[0]?.headers["ce-partitionkey"]).toBe("/tidegate/hooks/twin");
  expect(arrived(other)[0]?.headers["ce-tenant"]).toBeUndefined();
});

test("SRC-5: parts are events of their own, in order per key, each with its own text and tenant", async () => {
  const marker = newMarker();
  const part = (sender: string, page: string, n: number): string =>
    `{"sender": {"id":"${marker}-${sender}"},"recipient":{"id":"${page}"}, "mid":"${marker}.${n}","n":${n}.0}`;
  const [a0, b1, a2, a3] = [part("a", "p1", 0), part("b", "p1", 1), part("a", "p1", 2), part("a", "p2", 3)];
  const body = `{"object":"page","entry":[{"messaging":[${a0} ,${b1}]},{"changes":[1]},{"messaging":[${a2}, ${a3}]}]}`;
  const headers = githubSigned("the secret before", body);
  expect((await send("meta", { body, headers })).status).toBe(200);
  expect((await send("meta", { body, headers }, 1)).status).toBe(200);
  await eventually(() => arrived(marker).length === 4);
  const ofA = arrived(marker).filter(({ headers }) => headers["ce-partitionkey"] === `${marker}-a`);
  expect(ofA.filter(({ headers }) => headers["ce-tenant"] === "p1").map(({ body }) => body)).toEqual([a0, a2]);
  expect(
    arrived(marker)
      .map(({ body }) => body)
      .toSorted(),
  ).toEqual([a0, b1, a2, a3].toSorted());
  const none = '{"object":"page","entry":[{"changes":[1]}]}';
  expect((await send("meta", { body: none, headers: githubSigned(secret, none) })).status).toBe(200);
});

test("SRC-4: path:1 is the segment after the source where the request line has an absolute URL, too", async () => {
  const marker = newMarker();
  const [url = ""] = fleet.urls;
  const body = JSON.stringify({ marker });
  const headers = ["Connection: close", `Content-Length: ${body.length}`];
  const { closed } = openRaw(
    Number(new URL(url).port),
    requestHead("POST", "http://any.example/hooks/few/acme", headers) + body,
  );
  expect((await closed).slice(0, 12)).toBe("HTTP/1.1 202");
  await eventually(() => arrived(marker).length === 1);
  expect(arrived(marker)[0]?.headers["ce-tenant"]).toBe("acme");
});

test("SRC-8: one bad part refuses all, and nothing is stored", async () => {
  const marker = newMarker();
  const good = { sender: { id: marker }, recipient: { id: "p" }, mid: marker };
  for (const bad of [{ ...good, sender: {} }, { ...good, mid: null }, { ...good, recipient: undefined }, 5]) {
    const body = JSON.stringify({ entry: [{ messaging: [good, bad] }] });
    const answer = await send("meta", { body, headers: githubSigned(secret, body) });
    expect([answer.status, answer.code]).toEqual([400, "invalid_request"]);
  }
  const body = JSON.stringify({ entry: [{ messaging: [{ ...good, last: true }] }] });
  await send("meta", { body, headers: githubSigned(secret, body) });
  await eventually(() => arrived(marker).length === 1);
  expect(arrived(marker)[0]?.body).toContain("last");
});

test("SRC-6: forms and other text go on byte for byte with their content type", async () => {
  const marker = newMarker();
  const form = `From=%2B1+2&Body=${marker}%21&Sid=${marker}`;
  const type = "application/x-www-form-urlencoded; charset=UTF-8";
  for (const gateway of [0, 1]) {
    const answer = await send("form", { body: form, headers: { "content-type": type } }, gateway);
    expect(answer.status).toBe(202);
  }
  const xml = `\ufeff<a>${marker}\r\n</a>`;
  await send("open?key=k", { body: xml, headers: { "content-type": "text/xml" } });
  // No media type: text like any other.
  const odd = `odd ${marker}`;
  expect((await send("open?key=k", { body: odd, headers: { "content-type": "/" } })).status).toBe(202);
  await eventually(() => arrived(marker).length === 3);
  expect(arrived(marker).find(({ body }) => body === odd)?.headers["content-type"]).toBe("/");
  const first = arrived(marker).find(({ body }) => body === form);
  expect(first?.headers).toMatchObject({ "content-type": type, "ce-partitionkey": "+1%202" });
  expect(arrived(marker).find(({ body }) => body === xml)?.headers["content-type"]).toBe("text/xml");
});

test("SRC-6: bytes that are not UTF-8 reach the service as they were sent", async () => {
  const bytes = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0xff, 0xfe]);
  const type = `image/png; name=${newMarker()}`;
  expect((await send("open?key=k", { body: bytes, headers: { "content-type": type } })).status).toBe(202);
  const came = (): ServiceRequest | undefined =>
    service.requests.find(({ headers }) => headers["content-type"] === type);
  await eventually(() => came() !== undefined);
  expect(came()?.bytes).toEqual(bytes);
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signature } = came()?.headers ?? {};
  const key = Buffer.from(serviceSecret.slice("whsec_".length), "base64");
  const signed = createHmac("sha256", key)
    .update(`${String(id)}.${String(at)}.`)
    .update(bytes)
    .digest("base64");
  expect(signature).toBe(`v1,${signed}`);
  expect((await send("open", { body: bytes, headers: { "content-type": type } })).code).toBe("invalid_request");
});

test("SRC-6: a body that is no JSON is a string in a batch, and in the list of dead letters", async () => {
  const marker = newMarker();
  service.answer = (_request, response) => answerJson(response, {}, 400);
  await send("batch", { body: `a=${marker}`, headers: { "content-type": "text/plain" } });
  await eventually(() => arrived(marker).length === 1);
  expect(arrived(marker)[0]).toMatchObject({
    body: `["a=${marker}"]`,
    headers: { "content-type": "application/json" },
  });
  await eventually(async () => (await fleet.api("GET", "/v1/dead-letters")).text.includes(marker));
  const { body } = await fleet.api("GET", "/v1/dead-letters");
  expect(body["items"]).toContainEqual(expect.objectContaining({ event: "batched", data: `a=${marker}` }));
});

test("SRC-7: an id counts within its source only", async () => {
  const marker = newMarker();
  const headers = delivery();
  const body = JSON.stringify({ repository: { id: 1 }, marker });
  await sendSigned(body, headers);
  await send("twin", { body, headers });
  await eventually(() => arrived(marker).length === 2);
  const ids = arrived(marker).map(({ headers }) => headers["ce-id"]);
  expect(new Set(ids).size).toBe(2);
});

test("SRC-7: a repeat with another key and tenant is not stored; each part counts by itself", async () => {
  const marker = newMarker();
  const headers = delivery();
  const bodyOf = (repository: number): string => JSON.stringify({ repository: { id: repository }, marker });
  const sentTo = async (path: string, body: string, more: Record<string, string>, gateway: number): Promise<number> =>
    (await send(path, { body, headers: { ...githubSigned(secret, body), ...more } }, gateway)).status;
  expect(await sentTo("github/acme", bodyOf(1), headers, 0)).toBe(202);
  expect(await sentTo("github/other", bodyOf(2), headers, 1)).toBe(202);
  expect(await sentTo("github/other", bodyOf(2), delivery(), 1)).toBe(202);
  await eventually(() => arrived(marker).length === 2);
  const placeOf = ({ headers }: ServiceRequest): string => [headers["ce-tenant"], headers["ce-partitionkey"]].join(" ");
  expect(arrived(marker).map(placeOf).toSorted()).toEqual(["acme 1", "other 2"]);

  const part = (mid: string, sender: string): object => ({
    mid: `${marker} ${mid}`,
    sender: { id: sender },
    recipient: { id: sender },
  });
  const split = (...messaging: object[]): string => JSON.stringify({ entry: [{ messaging }] });
  expect(await sentTo("meta", split(part("a", "one")), {}, 0)).toBe(200);
  expect(await sentTo("meta", split(part("a", "two"), part("b", "two")), {}, 1)).toBe(200);
  // What would have been stored of the second webhook before its part "b" has the same key: it would have come before that.
  await eventually(() => arrived(`${marker} a`).length > 0 && arrived(`${marker} b`).length === 1);
  expect(arrived(`${marker} a`).map(placeOf)).toEqual(["one one"]);
});

test("SRC-9: with a route of mode call the service's answer is the provider's", async () => {
  const marker = newMarker();
  const body = `command=%2Fdeploy&text=${marker}`;
  const headers = { ...slackSigned(secret, body), "content-type": "application/x-www-form-urlencoded" };
  service.answer = (_request, response) => {
    response.writeHead(201, { "content-type": "text/xml; charset=utf-8" });
    response.end("<Response>größer</Response>");
  };
  const answer = await send("slash", { body, headers });
  expect([answer.status, answer.text]).toEqual([201, "<Response>größer</Response>"]);
  expect(answer.headers.get("content-type")).toBe("text/xml; charset=utf-8");
  expect(arrived(marker)[0]).toMatchObject({
    path: "/command",
    body,
    headers: { "ce-source": "/tidegate/hooks/slash", "content-type": "application/x-www-form-urlencoded" },
  });
});

test("SRC-9: a service that fails, is late, or answers something else gives the provider a 503", async () => {
  const answers: [string, HttpService["answer"]][] = [
    ["slash", (_request, response) => answerJson(response, {}, 500)],
    ["slash", (_request, response) => answerJson(response, {}, 404)],
    ["slash", (_request, response) => response.writeHead(200, { "content-type": "image/png" }).end("x")],
    [
      "slash",
      (_request, response) => response.writeHead(200, { "content-type": "text/plain" }).end("x".repeat(64 * 1024 + 1)),
    ],
    ["hasty", () => undefined],
  ];
  for (const [source, answer] of answers) {
    service.answer = answer;
    const body = "text=a";
    const headers = { ...slackSigned(secret, body), "content-type": "application/x-www-form-urlencoded" };
    const reply = await send(source, { body, headers });
    expect([reply.status, Number(reply.headers.get("retry-after")) > 0]).toEqual([503, true]);
  }
  expect((await send("brittle", { body: "{}" })).status).toBe(503);
});

test("SRC-10: with fallback: enqueue the provider gets the source's answer, and the item waits", async () => {
  const marker = newMarker();
  expect((await send("tough", { body: JSON.stringify({ marker }), headers: { "x-id": marker } })).status).toBe(204);
  const waits = async (): Promise<boolean> => {
    const { body } = await fleet.api("GET", "/v1/queues");
    return (body["classes"] as { class: string; waiting: number; inFlight: number }[]).some(
      (each) => each.class === "messages" && each.waiting + each.inFlight > 0,
    );
  };
  await eventually(waits);
});

test("SRC-11: a source whose quota is used up is refused with a time to retry, other sources are not", async () => {
  const { release } = holdAnswers();
  for (let n = 0; n < 30; n++) expect((await send("few/t", { body: "{}" })).status).toBe(202);
  const refused = await send("few/t", { body: "{}" });
  expect([refused.status, refused.code]).toEqual([429, "rate_limited"]);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect((await send("twin", { body: "{}", headers: delivery() })).status).toBe(202);
  expect(await metricOf(fleet.gateways[0], 'webhooks_total{source="few",outcome="rate_limited"}')).toBe(1);
  release();
});

test("SRC-11: where the class drops items the provider gets its 2xx, and the drop is counted", async () => {
  const { release } = holdAnswers();
  for (let n = 0; n < 31; n++) expect((await send("dropped", { body: "{}" })).status).toBe(202);
  expect(await metricOf(fleet.gateways[0], 'webhooks_total{source="dropped",outcome="dropped"}')).toBe(1);
  release();
});

test("SRC-11: of a webhook with more parts than there is room for, the class drops those that are over", async () => {
  const marker = newMarker();
  const parts = Array.from({ length: 33 }, (_, n) => ({ marker: `${marker}-${n};` }));
  expect((await send("droppedParts", { body: JSON.stringify({ parts }) })).status).toBe(202);
  const counted = async (outcome: string): Promise<number> =>
    metricOf(fleet.gateways[0], `webhooks_total{source="droppedParts",outcome="${outcome}"}`);
  expect([await counted("accepted"), await counted("dropped")]).toEqual([1, 3]);
  await eventually(() => arrived(`${marker}-29;`).length === 1);
  expect(arrived(`${marker}-`).length).toBe(30);
});

test("SRC-11: a webhook with more parts than the quota is refused for good", async () => {
  const parts = Array.from({ length: 31 }, () => ({}));
  const refused = await send("many", { body: JSON.stringify({ parts }) });
  expect([refused.status, refused.code, refused.headers.get("retry-after")]).toEqual([413, "payload_too_large", null]);
});
