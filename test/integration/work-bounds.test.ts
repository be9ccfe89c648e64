/** Upper bound of one request's cost: the time that the main thread runs for it, independent of other load. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { machineSlowness, mainThreadMs } from "../support/cpu-time.ts";
import { eventually } from "../support/eventually.ts";
import { jwtSecret } from "../support/fleet.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

/** The contract is 20 ms without a token and 50 ms with one. A busy machine takes a few times as long, unbounded work a hundred times. */
const allowance = 4 * machineSlowness();
const allowedMs = { none: 20 * allowance, token: 50 * allowance };

const token = "service-token-of-the-test";
const KiB = 1024;
let redis: RedisServer;
let privateApi: Spawned;
let gateway: Spawned;
let ports: { api: number; public: number; admin: number };

beforeAll(async () => {
  redis = await startRedis();
  ports = { api: await freePort(), public: await freePort(), admin: await freePort() };
  const scopes = ["publish", "users", "read", "rules", "operate", "relay"];
  const common = { LOG_LEVEL: "warn", REDIS_URL: redis.url };
  privateApi = spawnProcess(process.execPath, ["private-api/main.ts"], {
    env: {
      ...common,
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(ports.api),
      PRIVATE_API_TOKENS: JSON.stringify([{ name: "all", token, scopes }]),
    },
  });
  gateway = spawnProcess(process.execPath, ["gateway/main.ts"], {
    env: {
      ...common,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(ports.public),
      GATEWAY_ADMIN_PORT: String(ports.admin),
      GATEWAY_TRANSPORTS: "websocket,polling",
      PRIVATE_API_URL: `http://127.0.0.1:${ports.api}`,
      PRIVATE_API_TOKEN: token,
      AUTH_JWT_SECRET: jwtSecret,
      HOOK_SECRET: "a secret of two sources",
    },
  });
  await eventually(() => isReady(ports.api));
  const put = {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: "{}",
  };
  await eventually(async () => (await fetch(`http://127.0.0.1:${ports.api}/v1/rules`, put)).ok);
  await eventually(() => isReady(ports.admin));
});
afterAll(async () => {
  for (const program of [privateApi, gateway]) program.kill("SIGKILL");
  await Promise.all([privateApi.exited, gateway.exited]);
  await redis.stop();
});

async function isReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  return answer?.status === 200;
}

interface Input {
  name: string;
  request: string;
  type?: string;
  body?: string;
  /** The expected answer. */
  status: number;
}

const json = "application/json";
const yaml = "application/yaml";
const ndjson = "application/x-ndjson";

/** Distinct names: the most expensive JSON. */
function members(length: number): string {
  const all: string[] = [];
  for (let i = 0, size = 0; size < length; size += (all.at(-1)?.length ?? 0) + 1) all.push(`"${(i++).toString(36)}":0`);
  return all.join(",");
}

function item(data: string): string {
  return `{"channel":"board:1","event":"e","data":${data}}`;
}

function ruleEntries(count: number, entry: (index: number) => string): string {
  return Array.from({ length: count }, (_, index) => entry(index)).join(",");
}

const brackets = "[],".repeat(330 * KiB);
const secret = `whsec_${"A".repeat(43)}`;
const service = `{"url":"http://x","secret":"${secret}"}`;
const route = (index: number): string => `{"event":"e${index}","service":"s","path":"/p","mode":"call"}`;

/** Each with 64 rooms, and templates of the length that the document has room for. */
function bridgeEntries(count: number, channelOf: (index: string) => string): string {
  const rooms = (bridge: number): string =>
    ruleEntries(64, (room) => `"${bridge}_${room}-{id}-{x}":"${channelOf(`${bridge}_${room}`)}"`);
  return ruleEntries(
    count,
    (bridge) => `"b${bridge}":{"redis":"env:X","adapter":"classic","direction":"in","rooms":{${rooms(bridge)}}}`,
  );
}

const inputs: Input[] = [
  {
    name: "brackets",
    request: "POST /v1/publish",
    type: json,
    body: item(`[${brackets.slice(0, 390_000)}0]`),
    status: 413,
  },
  {
    name: "brackets within the limit",
    request: "POST /v1/publish",
    type: json,
    body: item(`[${"[],".repeat(21_700)}0]`),
    status: 200,
  },
  { name: "members", request: "POST /v1/publish", type: json, body: `{${members(350 * KiB)}}`, status: 413 },
  {
    name: "unknown members",
    request: "POST /v1/users/u/send",
    type: json,
    body: `{${members(60 * KiB)}}`,
    status: 400,
  },
  { name: "brackets", request: "POST /v1/publish/batch", type: json, body: `[${brackets}0]`, status: 413 },
  {
    name: "one item of members",
    request: "POST /v1/publish/batch",
    type: json,
    body: `[{${members(1_000 * KiB)}}]`,
    status: 200,
  },
  {
    name: "payloads of numbers",
    request: "POST /v1/publish/batch",
    type: json,
    body: `[${Array.from({ length: 15 }, () => item(`[${"0,".repeat(32_000)}0]`)).join(",")}]`,
    status: 200,
  },
  { name: "bad lines", request: "POST /v1/publish/batch", type: ndjson, body: "x\n".repeat(500 * KiB), status: 413 },
  {
    name: "a thousand bad lines",
    request: "POST /v1/publish/batch",
    type: ndjson,
    body: `${"x".repeat(1_000)}\n`.repeat(1_000),
    status: 200,
  },
  { name: "closing brackets", request: "PUT /v1/rules", type: yaml, body: "}".repeat(40 * KiB), status: 400 },
  {
    name: "many keys",
    request: "PUT /v1/rules",
    type: yaml,
    body: ruleEntries(20_000, (index) => `k${index}: 1`).replaceAll(",", "\n"),
    status: 400,
  },
  { name: "keys of keys", request: "PUT /v1/rules", type: yaml, body: "? ".repeat(40 * KiB), status: 400 },
  {
    name: "aliases",
    request: "PUT /v1/rules",
    type: yaml,
    body: `a: &a [${"1,".repeat(5_000)}1]\nb: [${"*a,".repeat(90)}*a]`,
    status: 400,
  },
  { name: "members", request: "PUT /v1/rules", type: json, body: `{${members(500 * KiB)}}`, status: 413 },
  {
    name: "8,500 routes",
    request: "PUT /v1/rules",
    type: json,
    body: `{"services":{"s":${service}},"routes":[${ruleEntries(8_500, route)}]}`,
    status: 200,
  },
  {
    name: "8,500 routes to nowhere",
    request: "PUT /v1/rules",
    type: json,
    body: `{"routes":[${ruleEntries(8_500, route)}]}`,
    status: 400,
  },
  {
    name: "9,000 namespaces",
    request: "PUT /v1/rules",
    type: json,
    body: `{"namespaces":{${ruleEntries(9_000, (index) => `"n${index}":{"historySize":1}`)}}}`,
    status: 400,
  },
  {
    name: "1,000 services",
    request: "PUT /v1/rules",
    type: json,
    body: `{"services":{${ruleEntries(1_000, (index) => `"s${index}":${service}`)}}}`,
    status: 200,
  },
  {
    name: "1,000 sources and 7,000 prefixes",
    request: "PUT /v1/rules",
    type: json,
    body: `{"services":{"s":${service}},"routes":[${ruleEntries(7_000, (index) => route(index).replace(`"e${index}"`, `"e${index}.*"`))}],"sources":{${ruleEntries(1_000, (index) => `"x${index}":{"verify":"none","route":"e${index}.a"}`)}}}`,
    status: 200,
  },
  {
    name: "16 bridges with namespaces of their own",
    request: "PUT /v1/rules",
    type: json,
    body: `{"bridges":{${bridgeEntries(16, (index) => `n${index}:${"a".repeat(180)}{id}/{x}`)}}}`,
    status: 200,
  },
  {
    name: "16 bridges with similar channels",
    request: "PUT /v1/rules",
    type: json,
    body: `{"bridges":{${bridgeEntries(16, (index) => `n:${"a".repeat(180)}${index}.{id}/{x}`)}}}`,
    status: 200,
  },
  {
    name: "16 bridges with the same channels",
    request: "PUT /v1/rules",
    type: json,
    body: `{"bridges":{${bridgeEntries(16, () => `n:{id}/{x}`)}}}`,
    status: 400,
  },
  {
    name: "140 bridges",
    request: "PUT /v1/rules",
    type: json,
    body: `{"bridges":{${bridgeEntries(140, (index) => `n${index}:a{id}/{x}`)}}}`,
    status: 400,
  },
  {
    name: "32,000 listed users",
    request: "PUT /v1/rollouts",
    type: json,
    body: `{"groups":[${ruleEntries(32, (group) => `{"name":"g${group}","percent":1,"users":[${ruleEntries(1_000, (user) => `"u${group}.${user}"`)}]}`)}],"fallback":{"name":"f"}}`,
    status: 200,
  },
  {
    name: "a long query",
    request: `GET /v1/channels/a:b/history?${ruleEntries(3_000, (index) => `${index.toString(36)}=`).replaceAll(",", "&")}`,
    status: 400,
  },
];

async function costOf(
  pid: number | undefined,
  port: number,
  { request, type, body }: Input,
  more: object,
): Promise<{ status: number; text: string; ms: number }> {
  const [method = "", path = ""] = request.split(" ");
  const before = mainThreadMs(pid ?? 0);
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    // A connection of its own: the one before may close late.
    headers: { connection: "close", ...(type !== undefined && { "content-type": type }), ...more },
    ...(body !== undefined && { body }),
  });
  const text = await answer.text();
  return { status: answer.status, text, ms: mainThreadMs(pid ?? 0) - before };
}

test.for(inputs)("BND-1: $request with $name blocks the event loop only briefly", async (input) => {
  const { status, text, ms } = await costOf(privateApi.child.pid, ports.api, input, {
    authorization: `Bearer ${token}`,
  });
  expect(status).toBe(input.status);
  expect(ms).toBeLessThan(allowedMs.token);
  // The answer names the fault and does not repeat the request.
  expect(text.length).toBeLessThan(150 * KiB);
});

test.for(inputs)("BND-2: $request with $name and without a token costs next to nothing", async (input) => {
  const { status, ms } = await costOf(privateApi.child.pid, ports.api, input, {});
  expect(status).toBe(401);
  expect(ms).toBeLessThan(allowedMs.none);
});

const publicInputs: Input[] = [
  { name: "a long query", request: `GET /v1/bootstrap?${"a=%41&".repeat(2_500)}`, status: 200 },
  { name: "a body", request: "POST /v1/bootstrap", type: json, body: "[".repeat(60 * KiB), status: 404 },
  {
    name: "an unknown poll",
    request: "POST /socket.io/?EIO=4&transport=polling&sid=x",
    body: "4".repeat(380 * KiB),
    status: 400,
  },
];

test.for(publicInputs)("BND-2: $request with $name costs a gateway next to nothing", async (input) => {
  const { status, ms } = await costOf(gateway.child.pid, ports.public, input, {});
  expect(status).toBe(input.status);
  expect(ms).toBeLessThan(allowedMs.none);
});

const form = "application/x-www-form-urlencoded";
const hookInputs: Input[] = [
  {
    name: "a forged signature",
    request: "POST /hooks/signed",
    type: json,
    body: `{${members(1_000 * KiB)}}`,
    status: 401,
  },
  {
    name: "a form and a forged signature",
    request: "POST /hooks/sms",
    type: form,
    body: `a=${"%41".repeat(340 * KiB)}`,
    status: 401,
  },
  { name: "members", request: "POST /hooks/open", type: json, body: `{${members(1_000 * KiB)}}`, status: 413 },
  { name: "brackets", request: "POST /hooks/open", type: json, body: `{"key":[${brackets}0],"id":1}`, status: 400 },
  { name: "deep brackets", request: "POST /hooks/open", type: json, body: "[".repeat(1_000 * KiB), status: 400 },
  {
    name: "escaped names",
    request: "POST /hooks/open",
    type: json,
    body: `{${`"\\u006bey":{"a":"${"x".repeat(80)}"},`.repeat(9_990)}"id":1,"tenant":"t"}`,
    status: 202,
  },
  {
    name: "items",
    request: "POST /hooks/parts",
    type: json,
    body: `{"all":[${"{},".repeat(340 * KiB)}{}]}`,
    status: 413,
  },
  { name: "fields", request: "POST /hooks/open", type: form, body: "&".repeat(1_000 * KiB), status: 413 },
  {
    name: "escaped fields",
    request: "POST /hooks/open",
    type: form,
    body: `key=${"%41".repeat(340 * KiB)}`,
    status: 400,
  },
];

test.for(hookInputs)("BND-2: $request with $name costs a gateway little", async (input) => {
  const rules = {
    services: { s: { url: "http://127.0.0.1:1", secret } },
    routes: [{ event: "hook", service: "s", path: "/", mode: "enqueue" }],
    sources: {
      open: { verify: "none", route: "hook", key: "body:/key/a", id: "body:/id", tenant: "body:/tenant" },
      parts: { verify: "none", route: "hook", split: ["/all", "/more"] },
      signed: { verify: "github", secrets: ["env:HOOK_SECRET"], route: "hook" },
      sms: { verify: "twilio", secrets: ["env:HOOK_SECRET"], route: "hook" },
    },
  };
  const headers = { authorization: `Bearer ${token}`, "content-type": json };
  await fetch(`http://127.0.0.1:${ports.api}/v1/rules`, { method: "PUT", headers, body: JSON.stringify(rules) });
  await eventually(async () => {
    const { status } = await fetch(`http://127.0.0.1:${ports.public}/hooks/parts`, {
      method: "POST",
      headers,
      body: "{}",
    });
    return status === 202;
  });
  const signatures = { "x-hub-signature-256": `sha256=${"0".repeat(64)}`, "x-twilio-signature": "AAAA" };
  const { status, ms } = await costOf(gateway.child.pid, ports.public, input, signatures);
  expect(status).toBe(input.status);
  // What is accepted counts as a request with a token.
  expect(ms).toBeLessThan(status === 202 ? allowedMs.token : allowedMs.none);
});
