/** The calls of internal services: which are accepted, which refused, and with which problem. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { authorizeRequests } from "../../private-api/authorization.ts";
import { type ApiOptions, type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { openRaw, requestHead } from "../support/raw-http.ts";
import { createTestDoor } from "../support/test-door.ts";

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ rules: {} });
});
afterAll(() => fleet.stop());

const valid = { channel: "board:1", event: "moved", data: { x: 1 } };

describe("authorization", () => {
  test.for<[string, ApiOptions, number, string]>([
    ["no token", { token: null }, 401, "unauthenticated"],
    ["an unknown token", { token: "an-unknown-token" }, 401, "unauthenticated"],
    ["another scheme", { token: null, headers: { authorization: `Basic ${tokens.service}` } }, 401, "unauthenticated"],
    ["a token without the scope", { token: tokens.reader }, 403, "missing_scope"],
  ])("API-1: %s is refused", async ([, options, status, code]) => {
    const answer = await fleet.api("POST", "/v1/publish", valid, options);
    expect([answer.status, answer.body["code"]]).toEqual([status, code]);
  });

  const callsWithBody = [
    ["PUT", "/v1/rules", "application/yaml"],
    ["PUT", "/v1/rollouts", "application/json"],
    ["POST", "/v1/publish", "application/json"],
    ["POST", "/v1/publish/batch", "application/x-ndjson"],
    ["POST", "/v1/users/ada/send", "application/json"],
    ["POST", "/v1/users/ada/disconnect", "application/json"],
    ["POST", "/v1/users/ada/subscribe", "application/json"],
    ["POST", "/v1/relay", "application/x-ndjson"],
    ["POST", "/v1/nothing", "application/json"],
  ] as const;

  test.for(callsWithBody)(
    "API-4: %s %s reads no body before it knows its caller",
    async ([method, path, contentType]) => {
      const headers = [`Content-Type: ${contentType}`, "Content-Length: 1000000", "Authorization: Bearer unknown"];
      const { closed } = openRaw(fleet.privateApi.door.port, `${requestHead(method, path, headers)}{`);
      const status = path === "/v1/nothing" ? 404 : 401;
      expect(await closed).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*connection: close`, "i"));
    },
  );

  test("API-4: a token without the scope is refused before any body is read", async () => {
    const headers = ["Content-Length: 1000000", `Authorization: Bearer ${tokens.reader}`];
    const { closed } = openRaw(fleet.privateApi.door.port, `${requestHead("PUT", "/v1/rules", headers)}{`);
    expect(await closed).toMatch(/^HTTP\/1.1 403 [^]*missing_scope/);
  });

  test("API-5: a route without a scope makes the start fail", () => {
    const { door } = createTestDoor();
    authorizeRequests(door, []);
    expect(() => door.app.get("/open", () => "")).toThrow(/GET \/open names no scope/);
    expect(() => door.app.get("/open", { config: { access: "anybody" } }, () => "")).toThrow(/names no scope/);
    expect(() => door.app.get("/open", { config: { access: "public" } }, () => "")).not.toThrow();
  });

  test("API-2: errors are problems with code, retryable and every finding", async () => {
    const answer = await fleet.api("POST", "/v1/publish", { channel: "X", event: 5, more: true });
    expect(answer.status).toBe(400);
    expect(answer.headers.get("content-type")).toContain("application/problem+json");
    expect(answer.body).toMatchObject({ status: 400, code: "invalid_request", retryable: false });
    const errors = answer.body["errors"] as string[];
    for (const part of ["channel", "event", "data", "more"]) expect(errors.join("\n")).toContain(part);
  });

  test("API-2: a path that cannot be decoded is answered with a problem", async () => {
    const answer = await fleet.api("GET", "/v1/channels/%zz/history");
    expect([answer.status, answer.body["code"]]).toEqual([400, "invalid_request"]);
  });

  test("API-3: an unknown path is not_found", async () => {
    const answer = await fleet.api("GET", "/v1/nothing");
    expect([answer.status, answer.body["code"]]).toEqual([404, "not_found"]);
  });
});

describe("publish", () => {
  test.for<[string, unknown, ApiOptions, number, string]>([
    ["no JSON", undefined, { text: "{" }, 400, "invalid_request"],
    ["no object", [], {}, 400, "invalid_request"],
    [
      "another content type",
      undefined,
      { text: "a=1", headers: { "content-type": "text/plain" } },
      400,
      "invalid_request",
    ],
    ["an unknown field", { ...valid, bogus: 1 }, {}, 400, "invalid_request"],
    ["no data", { channel: "board:1", event: "moved" }, {}, 400, "invalid_request"],
    ["a channel that is none", { ...valid, channel: "board" }, {}, 400, "invalid_request"],
    ["an event of the gateway's own", { ...valid, event: "sync:welcome" }, {}, 400, "invalid_request"],
    ["an event that Socket.IO reserves", { ...valid, event: "disconnect" }, {}, 400, "invalid_request"],
    ["a number as text", { ...valid, expect: { epoch: "a", offset: "1" } }, {}, 400, "invalid_request"],
    [
      "an ephemeral item with a position",
      { ...valid, history: false, expect: { epoch: "a", offset: 1 } },
      {},
      400,
      "invalid_request",
    ],
    ["data over the limit", { ...valid, data: "x".repeat(65_535) }, {}, 413, "payload_too_large"],
    ["a body over the limit", { ...valid, data: "x".repeat(500_000) }, {}, 413, "payload_too_large"],
  ])("PUB-1: %s is refused, and nothing is published", async ([, body, options, status, code]) => {
    const before = await fleet.api("GET", "/v1/channels/board:1/history");
    const answer = await fleet.api("POST", "/v1/publish", body, options);
    expect([answer.status, answer.body["code"]]).toEqual([status, code]);
    expect((await fleet.api("GET", "/v1/channels/board:1/history")).body).toEqual(before.body);
  });

  test("PUB-5: data may have any names and 128 levels; deeper data is refused, alone in a batch", async () => {
    const text = '{"channel":"board:names","event":"e","data":{"__proto__":{"a":1},"constructor":{"prototype":2}}}';
    expect((await fleet.api("POST", "/v1/publish", undefined, { text })).status).toBe(200);
    const history = await fleet.api("GET", "/v1/channels/board:names/history");
    expect(history.text).toContain('"data":{"__proto__":{"a":1},"constructor":{"prototype":2}}');
    const deep = (levels: number): string =>
      `{"channel":"board:deep","event":"e","data":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    expect((await fleet.api("POST", "/v1/publish", undefined, { text: deep(128) })).status).toBe(200);
    const refused = await fleet.api("POST", "/v1/publish", undefined, { text: deep(30_000) });
    expect([refused.status, refused.body["code"]]).toEqual([400, "invalid_request"]);
    const batch = await fleet.api("POST", "/v1/publish/batch", undefined, {
      text: `[${deep(1)},${deep(30_000)},${deep(2)}]`,
    });
    expect(JSON.parse(batch.text)).toMatchObject([
      { offset: 2 },
      { error: { code: "invalid_request" } },
      { offset: 3 },
    ]);
  });

  test("PUB-2: data of exactly the limit is accepted", async () => {
    expect((await fleet.api("POST", "/v1/publish", { ...valid, data: "x".repeat(65_534) })).status).toBe(200);
  });

  test("PUB-3: an id makes a repeat harmless", async () => {
    const item = { ...valid, channel: "board:ids", id: "one" };
    const first = await fleet.api("POST", "/v1/publish", item);
    expect(first.body).toEqual({ epoch: expect.any(String) as string, offset: 1 });
    expect((await fleet.api("POST", "/v1/publish", item)).body).toEqual({ ...first.body, duplicate: true });
  });

  test("PUB-4: a publish that expects an older position is refused with the publications after it", async () => {
    const channel = "board:expect";
    const publish = async (data: number, more = {}) =>
      fleet.api("POST", "/v1/publish", { channel, event: "moved", data, ...more });
    const { epoch } = (await publish(1)).body as { epoch: string };
    expect((await publish(2, { expect: { epoch, offset: 1 } })).body).toEqual({ epoch, offset: 2 });
    const conflict = await publish(3, { expect: { epoch, offset: 1 } });
    expect(conflict.status).toBe(409);
    expect(conflict.body).toMatchObject({
      code: "conflict",
      position: { epoch, offset: 2 },
      publications: [{ offset: 2, event: "moved", data: 2 }],
    });
  });
});

describe("batch", () => {
  const path = "/v1/publish/batch";
  const ndjson = { "content-type": "application/x-ndjson" };

  test("BATCH-1: answers have the order of the items, and an item fails alone", async () => {
    const item = { channel: "board:batch", event: "moved", data: 1 };
    const answer = await fleet.api("POST", path, [
      item,
      { ...item, data: "x".repeat(70_000) },
      { ...item, event: "sync:x" },
      item,
      7,
    ]);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject([
      { offset: 1 },
      { error: { code: "payload_too_large", retryable: false } },
      { error: { code: "invalid_request", retryable: false } },
      { offset: 2 },
      { error: { code: "invalid_request" } },
    ]);
  });

  test("BATCH-2: NDJSON is answered with NDJSON; a line of invalid JSON fails alone", async () => {
    const line = JSON.stringify({ channel: "board:lines", event: "moved", data: "ä" });
    const answer = await fleet.api("POST", path, undefined, { text: `${line}\n{"channel\n${line}\n`, headers: ndjson });
    expect(answer.headers.get("content-type")).toContain("application/x-ndjson");
    const lines = answer.text
      .trimEnd()
      .split("\n")
      .map((part) => JSON.parse(part) as Record<string, unknown>);
    expect(lines).toMatchObject([{ offset: 1 }, { error: { code: "invalid_request" } }, { offset: 2 }]);
  });

  test("BATCH-3: 1,000 items of one channel are published in order, 1,001 are refused", async () => {
    const items = Array.from({ length: 1_001 }, (_, n) => ({ channel: "board:thousand", event: "e", data: n }));
    const refused = await fleet.api("POST", path, items);
    expect([refused.status, refused.body["code"]]).toEqual([413, "payload_too_large"]);
    const answer = await fleet.api("POST", path, items.slice(1));
    expect((JSON.parse(answer.text) as { offset: number }[]).map((item) => item.offset)).toEqual(
      items.slice(1).map((item) => item.data),
    );
  });
});

describe("users", () => {
  test.for<[string, string, unknown, number, string]>([
    ["send without an event", "/v1/users/ada/send", { data: 1 }, 400, "invalid_request"],
    ["send of a reserved event", "/v1/users/ada/send", { event: "sync:x", data: 1 }, 400, "invalid_request"],
    ["send of too much", "/v1/users/ada/send", { event: "x", data: "x".repeat(70_000) }, 413, "payload_too_large"],
    ["disconnect with an unknown field", "/v1/users/ada/disconnect", { now: true }, 400, "invalid_request"],
    [
      "a user's name that is too long",
      `/v1/users/${"u".repeat(257)}/send`,
      { event: "x", data: 1 },
      400,
      "invalid_request",
    ],
  ])("USR-4: %s is refused", async ([, path, body, status, code]) => {
    const answer = await fleet.api("POST", path, body);
    expect([answer.status, answer.body["code"]]).toEqual([status, code]);
  });

  test("USR-5: disconnect needs no body", async () => {
    expect((await fleet.api("POST", "/v1/users/nobody/disconnect")).status).toBe(202);
    const empty = { text: "", headers: { "content-type": "application/json" } };
    expect((await fleet.api("POST", "/v1/users/nobody/disconnect", undefined, empty)).status).toBe(202);
  });
});

describe("bodies as clients send them", () => {
  const types = ["application/json", "application/x-www-form-urlencoded", "text/plain", "nonsense"];

  test.each(types)("BODY-1: without a body the content type %s is ignored", async (type) => {
    const empty = { text: "", headers: { "content-type": type } };
    expect((await fleet.api("POST", "/v1/users/nobody/disconnect", undefined, empty)).status).toBe(202);
    // The body is accepted: only the node does not exist.
    expect((await fleet.api("POST", "/v1/nodes/nobody/drain", undefined, empty)).body["code"]).toBe("not_found");
    for (const path of ["/v1/publish", "/v1/publish/batch", "/v1/users/ada/send"]) {
      const answer = await fleet.api("POST", path, undefined, empty);
      expect([answer.status, answer.body["code"]]).toEqual([400, "invalid_request"]);
    }
  });

  test("BODY-1: the content type of an empty chunked body is ignored", async () => {
    const answer = await fetch(`${fleet.apiUrl}/v1/users/nobody/disconnect`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
      body: new ReadableStream({ start: (controller) => controller.close() }),
      duplex: "half",
    });
    expect(answer.status).toBe(202);
  });

  test("BODY-1: an unsupported content type is refused with the supported one", async () => {
    const form = { text: "channel=board:1", headers: { "content-type": "application/x-www-form-urlencoded" } };
    const answer = await fleet.api("POST", "/v1/publish", undefined, form);
    expect([answer.status, answer.body["detail"]]).toEqual([400, expect.stringContaining("application/json")]);
  });

  test("BODY-3: errors of JSON and YAML in documents, publishes and batches have a position", async () => {
    const detail = async (method: string, path: string, text: string, type = "application/json"): Promise<string> => {
      const answer = await fleet.api(method, path, undefined, { text, headers: { "content-type": type } });
      return answer.text;
    };
    expect(await detail("PUT", "/v1/rules", '{"routes":[\n]]}')).toContain("not JSON: error at line 2, column 2");
    expect(await detail("PUT", "/v1/rules", "routes:\n  - [", "application/yaml")).toMatch(/line 2, column \d/);
    expect(await detail("POST", "/v1/publish", '{"channel":}')).toContain("not JSON: error at line 1, column 12");
    expect(await detail("POST", "/v1/publish/batch", '[{},{"a" 1}]')).toContain("item 2: is not JSON: error at byte 2");
    expect(await detail("POST", "/v1/publish/batch", "{}")).toContain("no JSON array");
    const lines = await detail("POST", "/v1/publish/batch", `${JSON.stringify(valid)}\n{"a"\n`, "application/x-ndjson");
    expect(lines.split("\n")[1]).toContain("is not JSON: error at byte 2 of the item");
  });

  test("BODY-2: a byte order mark before JSON, YAML or an NDJSON line is ignored", async () => {
    const marked = (text: string, type = "application/json"): ApiOptions => ({
      text: `\ufeff${text}`,
      headers: { "content-type": type },
    });
    const item = JSON.stringify(valid);
    expect((await fleet.api("POST", "/v1/publish", undefined, marked(item))).status).toBe(200);
    const array = await fleet.api("POST", "/v1/publish/batch", undefined, marked(`[${item},${item}]`));
    const lines = marked(`${item}\n\ufeff${item}\n`, "application/x-ndjson");
    const ndjson = await fleet.api("POST", "/v1/publish/batch", undefined, lines);
    for (const { status, text } of [array, ndjson]) {
      expect([status, text.match(/"offset"/g)?.length, text.includes("error")]).toEqual([200, 2, false]);
    }
    const { version, ...rules } = (await fleet.api("GET", "/v1/rules")).body;
    for (const document of [
      marked(JSON.stringify(rules)),
      marked(JSON.stringify(rules), "application/yaml"),
      marked("namespaces: {}", "application/yaml"),
    ]) {
      expect((await fleet.api("PUT", "/v1/rules", undefined, document)).status).toBe(200);
    }
    await fleet.api("PUT", "/v1/rules", rules);
    expect(version).toBeGreaterThan(0);
  });
});

test("HIS-3: an invalid history query is refused with every finding", async () => {
  const answer = await fleet.api("GET", "/v1/channels/board:1/history?after=-1&limit=2000&x=1");
  expect(answer.status).toBe(400);
  expect((answer.body["errors"] as string[]).length).toBeGreaterThanOrEqual(3);
});

test("OPS-1: health, readiness and metrics need no token and name the failing check", async () => {
  for (const door of [fleet.privateApi.door, ...fleet.gateways.map((gateway) => gateway.adminDoor)]) {
    const url = `http://127.0.0.1:${door.port}`;
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    const ready = await fetch(`${url}/readyz`);
    expect(ready.status).toBe(200);
    expect(await ready.json()).toMatchObject({
      status: expect.stringMatching(/ok|degraded/) as string,
      checks: { broker: "ok" },
    });
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toMatch(/^# HELP tidegate_/m);
  }
});

test("OPS-2: the API describes itself as OpenAPI, with the scope and the refusals of each call", async () => {
  interface Operation {
    description: string;
    responses: Record<string, { content?: Record<string, { schema: { required: string[] } }> }>;
  }
  const document = (await (await fetch(`${fleet.apiUrl}/openapi.json`)).json()) as {
    openapi: string;
    paths: Record<string, Record<string, Operation>>;
  };
  expect(document.openapi).toMatch(/^3\.1/);
  expect(Object.keys(document.paths)).toEqual(
    expect.arrayContaining(["/v1/publish", "/v1/publish/batch", "/v1/users/{user}/send", "/v1/rules"]),
  );
  const statuses = (path: string, method: string): string[] =>
    Object.keys(document.paths[path]?.[method]?.responses ?? {});
  for (const path of ["/v1/channels", "/v1/users", "/v1/nodes/{node}/sessions", "/v1/queues"]) {
    expect(statuses(path, "get")).toEqual(["200", "default"]);
  }
  expect(document.paths).toHaveProperty(["/v1/nodes/{node}/undrain", "post"]);
  expect(statuses("/v1/queues/release", "post")).toEqual(["200", "default"]);
  expect(statuses("/v1/dead-letters", "get")).toEqual(["200", "default"]);
  expect(statuses("/v1/dead-letters/retry", "post")).toEqual(["200", "default"]);
  expect(statuses("/v1/dead-letters/{id}/retry", "post")).toEqual(["202", "default"]);
  expect(statuses("/v1/dead-letters/{id}", "delete")).toEqual(["204", "default"]);
  expect(statuses("/v1/endpoints/{id}", "delete")).toEqual(["204", "default"]);
  for (const call of ["send", "disconnect", "subscribe", "unsubscribe", "refresh"]) {
    expect(statuses(`/v1/users/{user}/${call}`, "post"), call).toEqual(["202", "default"]);
  }
  for (const call of ["drain", "undrain"]) {
    expect(statuses(`/v1/nodes/{node}/${call}`, "post"), call).toEqual(["202", "default"]);
  }
  for (const { description, responses } of Object.values(document.paths).flatMap((each) => Object.values(each))) {
    expect(description).toMatch(/Needs the scope (publish|users|read|rules|operate|endpoints)\.$/);
    const problem = responses["default"]?.content?.["application/problem+json"]?.schema;
    expect(problem?.required).toEqual(["type", "title", "status", "detail", "code", "retryable"]);
  }
});
