/** The acks that the answers of a service become. */
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let fleet: Fleet;
let service: HttpService;

beforeAll(async () => {
  service = await startService();
  fleet = await startFleet({
    rules: {
      services: { documents: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "doc.*", service: "documents", path: "/events/{event}", mode: "call" }],
    },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

async function newClient(): Promise<StockClient> {
  return connectClient(fleet.urls[0] ?? "");
}

const json = "application/json";
test.for<[string, number, Record<string, string>, string, object]>([
  ["204", 204, {}, "", { ok: true, data: null }],
  ["JSON null", 200, { "content-type": json }, "null", { ok: true, data: null }],
  [
    "JSON over several lines",
    201,
    { "content-type": json },
    '{\n "a": [1,\n2]\n}\n',
    { ok: true, data: { a: [1, 2] } },
  ],
  [
    "2xx that is not JSON",
    200,
    {},
    "<html>",
    { error: { code: "upstream_bad_response", retryable: false, status: 200 } },
  ],
  ["2xx without a body", 200, {}, "", { error: { code: "upstream_bad_response", retryable: false } }],
  [
    "a redirect",
    302,
    { location: "/" },
    "",
    { error: { code: "upstream_bad_response", retryable: false, status: 302 } },
  ],
  ["400", 400, {}, "no", { error: { code: "upstream_rejected", retryable: false, status: 400 } }],
  [
    "422 with its own code",
    422,
    { "content-type": json },
    '{"code":"card_locked","message":"locked by Grace","more":1}',
    { error: { code: "card_locked", message: "locked by Grace", retryable: false, status: 422 } },
  ],
  [
    "429",
    429,
    { "retry-after": "3" },
    "",
    { error: { code: "rate_limited", retryable: true, retryAfterMs: 3_000, status: 429 } },
  ],
  [
    "503",
    503,
    { "retry-after": "2" },
    "",
    { error: { code: "upstream_failed", retryable: true, retryAfterMs: 2_000, status: 503 } },
  ],
  ["500", 500, {}, "", { error: { code: "upstream_failed", retryable: true, status: 500 } }],
])("CALL-7: %s", async ([, status, headers, body, expected]) => {
  const client = await newClient();
  service.answer = (_request, response) => response.writeHead(status, headers).end(body);
  expect(await client.request("doc.open", {})).toMatchObject(expected);
});

test("CALL-14: members of a 4xx beside code and message reach the client as details", async () => {
  const client = await newClient();
  const more = { position: { epoch: "e", offset: 7 }, publications: [{ offset: 7, event: "moved", data: null }] };
  service.answer = (_request, response) =>
    answerJson(response, { code: "conflict", message: "moved on", ...more }, 409);
  expect(await client.request("doc.open", {})).toEqual({
    ok: false,
    error: {
      ...{ code: "conflict", message: "moved on", retryable: false, status: 409 },
      ...{ details: more, requestId: expect.any(String) },
    },
  });
  service.answer = (_request, response) => answerJson(response, { code: "locked", message: "by Grace" }, 423);
  expect((await client.request("doc.open", {})).error).not.toHaveProperty("details");
  const deep = `${"[".repeat(200)}${"]".repeat(200)}`;
  service.answer = (_request, response) =>
    response.writeHead(409).end(`{"code":"conflict","message":"deep","more":${deep}}`);
  expect((await client.request("doc.open", {})).error?.code).toBe("upstream_rejected");
});

test("CALL-14: code and message of a 4xx may be escaped, repeated, or come last", async () => {
  const client = await newClient();
  service.answer = (_request, response) =>
    response
      .writeHead(409)
      .end(String.raw`{ "a" : [1e2,"}"], "code":"no", "c\u006fde" : "own" ,"b":{"code":1},"message":"m\n"}`);
  expect((await client.request("doc.open", {})).error).toEqual({
    ...{ code: "own", message: "m\n", retryable: false, status: 409 },
    details: { a: [100, "}"], b: { code: 1 } },
    requestId: expect.any(String),
  });
});

test("CALL-15: answers and details of a 4xx reach the client as the service wrote them", async () => {
  const client = await newClient();
  const packets: string[] = [];
  client.socket.io.engine.on("packet", ({ data }: { data?: unknown }) => packets.push(String(data)));
  const text = String.raw`{"n":[1e20, 12345678901234567890,1.0,-0],${"\t"}"s":"\u00e9\/é😀\u2028","a":1,"a":2,"__proto__":{"x":1}}`;
  service.answer = (_request, response) => response.end(text.replace(", ", ",\n"));
  expect((await client.request("doc.open", {})).ok).toBe(true);
  expect(packets.at(-1)).toContain(`[{"ok":true,"data":${text}}]`);
  service.answer = (_request, response) => response.writeHead(422).end(`{"code":"own","message":"m","more":${text}}`);
  expect((await client.request("doc.open", {})).error?.code).toBe("own");
  expect(packets.at(-1)).toContain(`"details":{"more":${text}}}}]`);
});

test("CALL-15: an answer with 1 MB of numbers arrives as written, and delays no other call", async () => {
  const [large, other] = [await newClient(), await newClient()];
  const { promise: held, resolve: hold } = Promise.withResolvers<() => void>();
  const numbers = Array.from({ length: 200_000 }, () => "1e20");
  service.answer = (request, response) => {
    if (request.body === '"hold"') hold(() => answerJson(response, "held"));
    else response.end(`[${numbers.join()}]`);
  };
  const slow = other.request("doc.open", "hold");
  const answer = await held;
  const ack = await large.request("doc.open", "numbers");
  expect(ack.data).toEqual(numbers.map(Number));
  answer();
  expect((await slow).data).toBe("held");
});

test.each([
  ["overlong", Buffer.from([0x22, 0xc0, 0xaf, 0x22])],
  ["a lone surrogate", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])],
  ["Latin-1", Buffer.from('"é"', "latin1")],
])("CALL-16: an answer that is not UTF-8 is no JSON: %s", async (_name, body) => {
  const client = await newClient();
  service.answer = (_request, response) => response.end(body);
  expect((await client.request("doc.open", {})).error?.code).toBe("upstream_bad_response");
  const rejection = Buffer.concat([Buffer.from('{"code":"own","message":'), body, Buffer.from("}")]);
  service.answer = (_request, response) => response.writeHead(409).end(rejection);
  expect((await client.request("doc.open", {})).error?.code).toBe("upstream_rejected");
  service.answer = (_request, response) => response.end("\ufeff[1]");
  expect((await client.request("doc.open", {})).data).toEqual([1]);
});

test.each([
  ["0.5", 1_000],
  ["1.5", 2_000],
  ["86400", 3_600_000],
  ["-1", undefined],
  ["Sun, 06 Nov 1994 08:49:37 GMT", undefined],
  ["soon", undefined],
])("WAIT-1: Retry-After: %s of a service reaches the client as %s", async (header, retryAfterMs) => {
  const client = await newClient();
  service.answer = (_request, response) => response.writeHead(429, { "retry-after": header }).end();
  expect((await client.request("doc.open", {})).error?.retryAfterMs).toBe(retryAfterMs);
});

test("CALL-19: an unrequested gzip answer is read, within the bound of answers", async () => {
  const client = await newClient();
  const answerWith = (body: Buffer, status = 200, encoding = "gzip"): void => {
    service.answer = (_request, response) => response.writeHead(status, { "content-encoding": encoding }).end(body);
  };
  answerWith(gzipSync('\ufeff{"a":"ä"}'));
  expect((await client.request("doc.open", {})).data).toEqual({ a: "ä" });
  expect(service.requests.at(-1)?.headers["accept-encoding"]).toBe("identity");
  answerWith(gzipSync('{"code":"own","message":"no"}'), 409, "x-gzip");
  expect((await client.request("doc.open", {})).error).toMatchObject({ code: "own", status: 409 });
  answerWith(gzipSync(JSON.stringify("x".repeat(900_000))));
  expect((await client.request("doc.open", {})).data).toHaveLength(900_000);
  answerWith(gzipSync(Buffer.alloc(100 * 1024 * 1024, "1")));
  expect((await client.request("doc.open", {})).error).toMatchObject({
    code: "upstream_bad_response",
    message: expect.stringContaining("too large") as string,
  });
  answerWith(Buffer.alloc(0), 204);
  expect((await client.request("doc.open", {})).data).toBeNull();
});

test.each([
  ["gzip", Buffer.from('{"a":1}')],
  ["gzip", gzipSync('{"a":1}').subarray(0, -9)],
  ["br", brotliCompressSync('{"a":1}')],
  ["deflate", deflateSync('{"a":1}')],
])("CALL-19: an answer in the encoding %s that cannot be read says so", async (encoding, body) => {
  const client = await newClient();
  service.answer = (_request, response) => response.writeHead(200, { "content-encoding": encoding }).end(body);
  expect((await client.request("doc.open", {})).error).toMatchObject({
    code: "upstream_bad_response",
    status: 200,
    message: expect.stringContaining(`in the encoding ${encoding} cannot be read`) as string,
  });
  service.answer = (_request, response) => response.writeHead(403, { "content-encoding": encoding }).end(body);
  expect((await client.request("doc.open", {})).error).toMatchObject({ code: "upstream_rejected", status: 403 });
});

test("CALL-17: a 4xx whose code or message is too long is upstream_rejected", async () => {
  const client = await newClient();
  const answerOf = async (code: string, message: string): Promise<unknown> => {
    service.answer = (_request, response) => answerJson(response, { code, message }, 409);
    return (await client.request("doc.open", {})).error?.code;
  };
  expect(await answerOf("c".repeat(128), "m".repeat(4_096))).toBe("c".repeat(128));
  expect(await answerOf("own", "😀".repeat(4_096)), "code points").toBe("own");
  expect(await answerOf("own", `${"😀".repeat(4_096)}m`)).toBe("upstream_rejected");
  expect(await answerOf("c".repeat(129), "")).toBe("upstream_rejected");
  expect(await answerOf("own", "m".repeat(4_097))).toBe("upstream_rejected");
});

test("CALL-13: an answer nested deeper than 128 levels is upstream_bad_response", async () => {
  const client = await newClient();
  service.answer = (_request, response) => response.end("[".repeat(60_000) + "]".repeat(60_000));
  expect((await client.request("doc.open", {})).error?.code).toBe("upstream_bad_response");
});

test("CALL-10: an answer that is too large is upstream_bad_response", async () => {
  const client = await newClient();
  service.answer = (_request, response) => answerJson(response, "x".repeat(1_100_000));
  expect((await client.request("doc.open", {})).error?.code).toBe("upstream_bad_response");
});
