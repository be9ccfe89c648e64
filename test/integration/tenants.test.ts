/** Users of one name in two tenants, and in none, on two gateways: none gets what belongs to another. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, type StockClient, userToken } from "../support/stock-client.ts";

let redis: RedisServer;
let service: HttpService;
let fleet: Fleet;
let one: string;
let two: string;

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
  service.answer = (_request, response) => answerJson(response, {});
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { GATEWAY_SESSIONS_PER_USER: "2" },
    rules: {
      namespaces: { room: { presence: true, joinLeave: true, access: "user" }, secret: {} },
      services: { app: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "card.*", service: "app", path: "/{event}", mode: "call" }],
      hooks: { connect: "app", subscribe: "app" },
    },
  });
  [one = "", two = ""] = fleet.urls;
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  await redis.stop();
});

/** Two tenants, and no tenant. */
const tenants = ["a", "b", undefined];

/** One session of a user of this name in each of {@link tenants}; the second on the other node. */
async function connectEach(sub: string): Promise<[StockClient, StockClient, StockClient]> {
  return [
    await connectClient(one, { sub, tenant: "a" }),
    await connectClient(two, { sub, tenant: "b" }),
    await connectClient(one, { sub }),
  ];
}

async function call(
  method: "GET" | "POST",
  what: string,
  { sub, tenant }: { sub: string; tenant: string | undefined },
  body?: object,
): Promise<ApiAnswer> {
  const query = tenant === undefined ? "" : `?tenant=${encodeURIComponent(tenant)}`;
  const answer = await fleet.api(method, `/v1/users/${encodeURIComponent(sub)}/${what}${query}`, body);
  expect(answer.status).toBe(method === "GET" ? 200 : 202);
  return answer;
}

/** Messages to the user, in the order of arrival. */
function notes(client: StockClient): unknown[] {
  return client.received.filter(({ event }) => event === "note").map(({ data }) => data);
}

test("TEN-1: a message reaches the sessions of the user of that tenant, or of none", async () => {
  const clients = await connectEach("sent");
  for (const tenant of tenants)
    await call("POST", "send", { sub: "sent", tenant }, { event: "note", data: tenant ?? 0 });
  // A later message proves that no other one was on its way.
  for (const tenant of tenants) await call("POST", "send", { sub: "sent", tenant }, { event: "note", data: "last" });
  await eventually(() => clients.every((client) => notes(client).includes("last")));
  expect(clients.map(notes)).toEqual([
    ["a", "last"],
    ["b", "last"],
    [0, "last"],
  ]);
});

test("TEN-1: tenant and user that join to the same text are different users", async () => {
  const names = [
    { sub: "a", tenant: "b:c" },
    { sub: "c:a", tenant: "b" },
    { sub: "b:c:a", tenant: undefined },
    { sub: "a", tenant: "b%3Ac" },
    { sub: '}{ "a"', tenant: " %/ä🚀+&=" },
  ];
  const clients = await Promise.all(names.map((claims, i) => connectClient(i % 2 ? one : two, claims)));
  for (const [i, name] of names.entries()) await call("POST", "send", name, { event: "note", data: i });
  for (const name of names) await call("POST", "send", name, { event: "note", data: "last" });
  await eventually(() => clients.every((client) => notes(client).includes("last")));
  expect(clients.map(notes)).toEqual(names.map((_, i) => [i, "last"]));
});

test("TEN-1: a disconnect ends the sessions of that tenant's user, and their resume tokens", async () => {
  const [ofA, ofB, without] = await connectEach("ended");
  await call("POST", "disconnect", { sub: "ended", tenant: "a" }, { reason: "moved out" });
  expect((await ofA.next(({ event }) => event === "sync:disconnect")).data).toMatchObject({ reason: "moved out" });
  await ofA.disconnected;
  expect((await refusedConnect(two, { resume: ofA.welcome.resumeToken })).code).toBe("unauthenticated");
  await call("POST", "disconnect", { sub: "ended", tenant: undefined });
  await without.disconnected;
  expect(ofB.socket.connected).toBe(true);
  const resumed = await connectClient(one, {}, { token: undefined, resume: ofB.welcome.resumeToken });
  expect(resumed.welcome).toMatchObject({ resumed: true, user: "ended", tenant: "b" });
});

test("TEN-1: subscribe and unsubscribe concern that tenant's user, grants included", async () => {
  const [ofA, ofB, without] = await connectEach("led");
  const channel = "secret:led";
  for (const tenant of ["a", "b"]) await call("POST", "subscribe", { sub: "led", tenant }, { channel });
  for (const client of [ofA, ofB]) await client.next(({ event }) => event === "sync:subscribed");
  await call("POST", "unsubscribe", { sub: "led", tenant: "a" }, { channel });
  await ofA.next(({ event }) => event === "sync:revoked");
  for (const tenant of tenants) await call("POST", "send", { sub: "led", tenant }, { event: "note", data: "last" });
  await eventually(() => [ofA, ofB, without].every((client) => notes(client).includes("last")));
  const seen = [ofB, without].map(({ received }) => received.map(({ event }) => event));
  expect(seen).toEqual([["sync:subscribed", "note"], ["note"]]);
});

test("TEN-1: the API lists the sessions of that tenant's user", async () => {
  const clients = await connectEach("listed");
  for (const [i, tenant] of tenants.entries()) {
    const { body } = await call("GET", "sessions", { sub: "listed", tenant });
    expect(body["sessions"]).toMatchObject([{ sessionId: clients[i]?.welcome.sessionId }]);
  }
  expect((await call("GET", "sessions", { sub: "listed", tenant: "c" })).body["sessions"]).toEqual([]);
});

test("TEN-2: GATEWAY_SESSIONS_PER_USER counts the sessions of each tenant's user", async () => {
  for (let i = 0; i < 2; i++) await connectEach("many");
  for (const tenant of tenants) {
    const token = await userToken({ sub: "many", ...(tenant !== undefined && { tenant }) });
    expect((await refusedConnect(two, { token })).code).toBe("rate_limited");
  }
});

test("TEN-2: a resume replaces the connection of its own user only", async () => {
  const [ofA, ofB, without] = await connectEach("moved");
  const after = await connectClient(two, {}, { token: undefined, resume: ofA.welcome.resumeToken });
  expect(after.welcome).toMatchObject({ sessionId: ofA.welcome.sessionId, resumed: true, user: "moved", tenant: "a" });
  expect((await ofA.next(({ event }) => event === "sync:disconnect")).data).toMatchObject({ code: "replaced" });
  for (const tenant of tenants) await call("POST", "send", { sub: "moved", tenant }, { event: "note", data: "last" });
  await eventually(() => [after, ofB, without].every((client) => notes(client).includes("last")));
  expect([ofB, without].map(({ received }) => received.map(({ event }) => event))).toEqual([["note"], ["note"]]);
});

test("RES-3: an expired token of another tenant's user of the same name does not resume", async () => {
  const [ofA] = await connectEach("late");
  const exp = Math.floor(Date.now() / 1000) - 60;
  for (const claims of [
    { sub: "late", tenant: "b", exp },
    { sub: "late", exp },
  ]) {
    const refusal = await refusedConnect(two, { token: await userToken(claims), resume: ofA.welcome.resumeToken });
    expect(refusal.code).toBe("token_expired");
  }
  const token = await userToken({ sub: "late", tenant: "a", exp });
  const resumed = await connectClient(two, {}, { token, resume: ofA.welcome.resumeToken });
  expect(resumed.welcome.resumed).toBe(true);
});

test("TEN-3: users of one name in several tenants are separate members", async () => {
  const channel = "room:tenants";
  const watcher = await connectClient(one, { sub: "watcher" });
  await watcher.subscribe(channel);
  const notices = (): [string, unknown][] =>
    watcher.received
      .filter(({ event, data }) => event.startsWith("sync:") && (data as { user: string }).user === "ada")
      .map(({ event, data }) => [event, data]);
  const clients = await connectEach("ada");
  for (const [i, client] of clients.entries()) {
    await client.subscribe(channel);
    await eventually(() => notices().length === 1 + i);
  }
  const second = await connectClient(two, { sub: "ada", tenant: "a" });
  await second.subscribe(channel);
  const members = [
    { user: "ada", tenant: "a", connections: 2 },
    { user: "ada", tenant: "b", connections: 1 },
    { user: "ada", connections: 1 },
    { user: "watcher", connections: 1 },
  ];
  const byTenant = (listed: unknown): unknown[] =>
    (listed as { user: string; tenant?: string }[]).toSorted((one, other) =>
      `${one.user} ${one.tenant ?? "none"}`.localeCompare(`${other.user} ${other.tenant ?? "none"}`),
    );
  await eventually(async () => {
    const { body } = await fleet.api("GET", `/v1/channels/${channel}/presence`);
    return (body["members"] as { connections: number }[]).reduce((sum, { connections }) => sum + connections, 0) === 5;
  });
  const { body } = await fleet.api("GET", `/v1/channels/${channel}/presence`);
  expect(byTenant(body["members"])).toEqual(members);
  expect(byTenant((await watcher.request("sync:presence", { channel }))["members"])).toEqual(members);
  expect(notices()).toHaveLength(3);
  await second.request("sync:unsubscribe", { channel });
  // The clients are on two nodes: only the notice of one leave orders it before the next.
  for (const [i, client] of clients.entries()) {
    await client.request("sync:unsubscribe", { channel });
    await eventually(() => notices().length === 4 + i);
  }
  const each = tenants.map((tenant) => ({ channel, user: "ada", ...(tenant !== undefined && { tenant }) }));
  expect(notices()).toEqual([
    ...each.map((member) => ["sync:join", member]),
    ...each.map((member) => ["sync:leave", member]),
  ]);
});

test("TEN-4: a repeated id gives one ce-id per tenant's user", async () => {
  const clients = await connectEach("caller");
  const idOf = async (client: StockClient): Promise<unknown> => {
    expect((await client.request("card.move", { to: 1 }, { id: "move-1" })).ok).toBe(true);
    return service.requests.at(-1)?.headers["ce-id"];
  };
  const ids = [];
  for (const client of [...clients, ...clients]) ids.push(await idOf(client));
  expect(new Set(ids).size).toBe(3);
  expect(ids.slice(3)).toEqual(ids.slice(0, 3));
});

test("TEN-1: the hooks get the tenant", async () => {
  await connectClient(one, { sub: "hooked", tenant: "a" });
  const asked = service.requests.findLast(({ path }) => path === "/tidegate/connect");
  expect(JSON.parse(asked?.body ?? "")).toMatchObject({ user: "hooked", tenant: "a" });
});

test.for<[string, string]>([
  ["an empty tenant", "?tenant="],
  ["a tenant without a value", "?tenant"],
  ["a tenant of more than 256 characters", `?tenant=${"t".repeat(257)}`],
  ["two tenants", "?tenant=a&tenant=b"],
  ["half a surrogate pair", "?tenant=%ED%A0%80"],
  ["a tenant that cannot be decoded", "?tenant=%zz"],
  ["a misspelt parameter", "?tenent=a"],
])("TEN-6: %s is refused, and affects no user", async ([, query]) => {
  for (const [method, what, body] of [
    ["POST", "send", { event: "note", data: 1 }],
    ["POST", "disconnect", {}],
    ["POST", "subscribe", { channel: "room:1" }],
    ["POST", "unsubscribe", { channel: "room:1" }],
    ["GET", "sessions", undefined],
  ] as const) {
    const answer = await fleet.api(method, `/v1/users/ada/${what}${query}`, body);
    expect([what, answer.status, answer.body["code"]]).toEqual([what, 400, "invalid_request"]);
  }
});

test("TEN-6: a user name in a path is refused where it is no well-formed text", async () => {
  const refused = await fleet.api("POST", "/v1/users/%ED%A0%80/send?tenant=a", { event: "note", data: 1 });
  expect([refused.status, refused.body["code"]]).toEqual([400, "invalid_request"]);
  const sub = "漢".repeat(256);
  const client = await connectClient(one, { sub, tenant: sub });
  await call("POST", "send", { sub, tenant: sub }, { event: "note", data: "last" });
  await client.next(({ event }) => event === "note");
});

test("OPS-2: the OpenAPI description has the tenant parameter of each user call", async () => {
  const { paths } = (await fleet.api("GET", "/openapi.json")).body as {
    paths: Record<string, Record<string, { parameters?: { name: string; in: string }[] }>>;
  };
  const described = Object.entries(paths).filter(([path]) => path.startsWith("/v1/users/"));
  expect(described).toHaveLength(6);
  for (const [, methods] of described) {
    const [method] = Object.values(methods);
    expect(method?.parameters).toContainEqual(expect.objectContaining({ in: "query", name: "tenant" }));
  }
});
