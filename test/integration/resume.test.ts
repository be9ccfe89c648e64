import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Subscribed } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
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
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: {
      services: { hooks: { url: service.url, secret: serviceSecret } },
      hooks: { connect: "hooks", subscribe: "hooks" },
    },
  });
  [one = "", two = ""] = fleet.urls;
});
beforeEach(() => {
  service.answer = (_request, response) => answerJson(response, { channels: ["extra:*"] });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  await redis.stop();
});

function hookCalls(kind: string): number {
  return service.requests.filter((request) => request.path === `/tidegate/${kind}`).length;
}

async function resume(url: string, before: StockClient, auth: object = {}): Promise<StockClient> {
  return connectClient(url, {}, { token: undefined, resume: before.welcome.resumeToken, ...auth });
}

test("RES-1: a session resumes on another node without token or hook; its old connection closes", async () => {
  const before = await connectClient(one, { sub: "mover", tenant: "acme" });
  await before.subscribe("extra:1");
  const asked = hookCalls("connect");
  const after = await resume(two, before);
  expect(after.welcome).toMatchObject({
    sessionId: before.welcome.sessionId,
    user: "mover",
    resumed: true,
    expiresAt: before.welcome.expiresAt,
  });
  const told = await before.next((received) => received.event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "replaced", reconnect: false });
  expect(await before.disconnected).toBe("io server disconnect");
  // The channels from the connect hook are part of the resumed session.
  expect((await after.subscribe("extra:1")).recovered).toBe(false);
  expect(hookCalls("connect")).toBe(asked);
  const { sessions } = (await fleet.api("GET", "/v1/users/mover/sessions?tenant=acme")).body as { sessions: object[] };
  expect(sessions).toEqual([
    { sessionId: before.welcome.sessionId, node: "node-2", connectedAt: expect.any(Number) as number },
  ]);
});

test("RES-1: on resume the same token needs no check, and another user's begins a new session", async () => {
  const before = await connectClient(one, { sub: "ada" });
  const newer = await userToken({ sub: "ada", channels: ["news:*"], exp: Math.floor(Date.now() / 1000) + 7_200 });
  const after = await resume(two, before, { token: newer });
  expect(after.welcome).toMatchObject({ resumed: true, sessionId: before.welcome.sessionId });
  expect(after.welcome.expiresAt).toBeGreaterThan(before.welcome.expiresAt);
  await after.subscribe("news:1");
  const other = await resume(two, after, { token: await userToken({ sub: "grace" }) });
  expect(other.welcome).toMatchObject({ user: "grace", resumed: false });
  const elsewhere = await resume(two, after, { token: await userToken({ sub: "ada", tenant: "other" }) });
  expect(elsewhere.welcome).toMatchObject({ user: "ada", resumed: false });
  expect(after.socket.connected).toBe(true);
});

test("RES-3: a session resumes for 15 minutes after its token expired, and has 60 s to refresh", async () => {
  const before = await connectClient(one, { sub: "late", exp: Math.floor(Date.now() / 1000) + 1 });
  const expired = await userToken({ sub: "late", exp: Math.floor(Date.now() / 1000) - 60 });
  const after = await resume(two, before, { token: expired });
  expect(after.welcome.resumed).toBe(true);
  expect(after.welcome.expiresAt - Date.now()).toBeGreaterThan(55_000);
  const hardly = await userToken({ sub: "late", exp: Math.floor(Date.now() / 1000) + 5 });
  const again = await resume(two, after, { token: hardly });
  expect(again.welcome.resumed).toBe(true);
  expect(again.welcome.expiresAt - Date.now()).toBeGreaterThan(55_000);
});

test("RES-3: an expired token of another user does not resume", async () => {
  const before = await connectClient(one, { sub: "ada" });
  const expired = await userToken({ sub: "grace", exp: Math.floor(Date.now() / 1000) - 60 });
  const refusal = await refusedConnect(two, { token: expired, resume: before.welcome.resumeToken });
  expect(refusal.code).toBe("token_expired");
  expect(before.socket.connected).toBe(true);
});

test("RES-4: a forged or changed resume token resumes nothing", async () => {
  const before = await connectClient(one);
  const { resumeToken } = before.welcome;
  const changed = `${String(resumeToken).slice(0, -3)}AAA`;
  for (const resumeWith of ["nonsense", changed, "", "x".repeat(30_000), 5, {}]) {
    const cold = await connectClient(two, {}, { resume: resumeWith });
    expect(cold.welcome.resumed).toBe(false);
    const refusal = await refusedConnect(two, { resume: resumeWith });
    expect(refusal.code).toBe("unauthenticated");
  }
});

test("RES-5: after a disconnect the user resumes on no node, and may begin a new session", async () => {
  const before = await connectClient(one, { sub: "out" });
  expect((await fleet.api("POST", "/v1/users/out/disconnect", { reason: "fired" })).status).toBe(202);
  const told = await before.next((received) => received.event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "disconnected", reason: "fired", reconnect: false });
  const refusal = await refusedConnect(two, { resume: before.welcome.resumeToken });
  expect(refusal.code).toBe("unauthenticated");
  const cold = await connectClient(two, { sub: "out" }, { resume: before.welcome.resumeToken });
  expect(cold.welcome.resumed).toBe(false);
  expect((await resume(one, cold)).welcome.resumed).toBe(true);
});

test("RES-5: a disconnect of one session leaves the user's others", async () => {
  const [ended, stays] = [await connectClient(one, { sub: "two" }), await connectClient(two, { sub: "two" })];
  const { sessionId } = ended.welcome;
  expect((await fleet.api("POST", "/v1/users/two/disconnect", { sessionId })).status).toBe(202);
  await ended.disconnected;
  expect((await refusedConnect(two, { resume: ended.welcome.resumeToken })).code).toBe("unauthenticated");
  expect(stays.socket.connected).toBe(true);
});

test("RES-5: a disconnect with reconnect: true lets clients resume", async () => {
  const before = await connectClient(one, { sub: "back" });
  await fleet.api("POST", "/v1/users/back/disconnect", { reconnect: true });
  await before.disconnected;
  expect((await resume(two, before)).welcome).toMatchObject({ resumed: true, sessionId: before.welcome.sessionId });
});

test("RES-6: a refresh gives the session a new resume token", async () => {
  const before = await connectClient(one, { sub: "fresh" });
  const ack = await before.request("sync:refresh", { token: await userToken({ sub: "fresh", channels: ["late:*"] }) });
  const after = await connectClient(two, {}, { token: undefined, resume: ack["resumeToken"] });
  expect(after.welcome.resumed).toBe(true);
  await after.subscribe("late:1");
});

test("GRANT-1: a grant replaces the hook, for the same user and tenant only", async () => {
  const before = await connectClient(one, { sub: "guest" });
  const { grant } = await before.subscribe("room:1");
  expect(grant).toEqual(expect.any(String));
  const asked = hookCalls("subscribe");
  const after = await resume(two, before);
  const ack = await after.request("sync:subscribe", { channel: "room:1", grant });
  expect(ack).toMatchObject({ ok: true, grant });
  expect(hookCalls("subscribe")).toBe(asked);
  const stranger = await connectClient(two, { sub: "stranger" });
  await stranger.request("sync:subscribe", { channel: "room:1", grant });
  await after.request("sync:subscribe", { channel: "room:2", grant });
  const elsewhere = await connectClient(two, { sub: "guest", tenant: "other" });
  await elsewhere.request("sync:subscribe", { channel: "room:1", grant });
  expect(hookCalls("subscribe")).toBe(asked + 3);
});

test("GRANT-3: a refresh extends the grants of the session, also of one presented later", async () => {
  const soon = Math.floor(Date.now() / 1000) + 60;
  const client = await connectClient(one, { sub: "stays", exp: soon });
  const { grant } = await client.subscribe("room:7");
  const token = await userToken({ sub: "stays" });
  const ack = await client.request("sync:refresh", { token });
  const renewed = (ack["grants"] as Record<string, string>)["room:7"];
  expect(renewed).toEqual(expect.any(String));
  expect(renewed).not.toBe(grant);
  const asked = hookCalls("subscribe");
  const later = await connectClient(two, {}, { token });
  const presented = await later.request("sync:subscribe", { channel: "room:7", grant });
  expect(presented).toMatchObject({ ok: true, grant: expect.not.stringMatching(`^${grant}$`) as string });
  expect((await later.request("sync:subscribe", { channel: "room:7", grant: renewed })).ok).toBe(true);
  expect(hookCalls("subscribe")).toBe(asked);
});

test("GRANT-2: a withdrawn grant ends the subscription at once, and allows none later", async () => {
  const before = await connectClient(one, { sub: "leaver" });
  const { grant } = await before.subscribe("room:1");
  expect((await fleet.api("POST", "/v1/users/leaver/unsubscribe", { channel: "room:1" })).status).toBe(202);
  const revoked = await before.next((received) => received.event === "sync:revoked");
  expect(revoked.data).toEqual({ channel: "room:1", reason: "unsubscribed by the application" });
  service.answer = (request, response) => answerJson(response, {}, request.path === "/tidegate/subscribe" ? 403 : 200);
  const codeFor = async (client: StockClient): Promise<string | undefined> =>
    (await client.request("sync:subscribe", { channel: "room:1", grant })).error?.code;
  expect(await codeFor(before)).toBe("channel_not_allowed");
  expect(await codeFor(await resume(two, before))).toBe("channel_not_allowed");
  expect(await codeFor(await connectClient(two, { sub: "leaver" }))).toBe("channel_not_allowed");
});

test("USR-6: a user is subscribed on all nodes, with a grant, and gets later publications", async () => {
  const clients = await Promise.all([connectClient(one, { sub: "led" }), connectClient(two, { sub: "led" })]);
  await fleet.api("POST", "/v1/publish", { channel: "room:9", event: "before", data: 1 });
  expect((await fleet.api("POST", "/v1/users/led/subscribe", { channel: "room:9" })).status).toBe(202);
  const notices = await Promise.all(clients.map((client) => client.next((item) => item.event === "sync:subscribed")));
  expect(notices[0]?.data).toMatchObject({ channel: "room:9", position: { offset: 1 } });
  await fleet.api("POST", "/v1/publish", { channel: "room:9", event: "after", data: 2 });
  for (const client of clients) {
    const item = await client.next((received) => received.event === "after");
    expect(item.meta).toEqual({ channel: "room:9", offset: 2 });
    expect(client.received.some((received) => received.event === "before")).toBe(false);
  }
  const asked = hookCalls("subscribe");
  const [first] = clients;
  const { grant, position } = (await first.next((item) => item.event === "sync:subscribed")).data as Subscribed;
  const after = await resume(two, first);
  const ack = await after.request("sync:subscribe", { channel: "room:9", position, grant });
  expect(ack).toMatchObject({ ok: true, recovered: true, publications: [{ offset: 2 }] });
  expect(hookCalls("subscribe")).toBe(asked);
  // An unsubscribe by the application counts on all nodes, whatever allowed the subscription.
  await fleet.api("POST", "/v1/users/led/unsubscribe", { channel: "room:9" });
  for (const client of [after, clients[1]]) await client.next((received) => received.event === "sync:revoked");
});

test("USR-6: a subscribe that the hook refuses succeeds where a service has subscribed the user meanwhile", async () => {
  const client = await connectClient(one, { sub: "member" });
  const { promise: asked, resolve: ask } = Promise.withResolvers<() => void>();
  service.answer = (_request, response) => ask(() => answerJson(response, {}, 403));
  const own = client.request("sync:subscribe", { channel: "room:10" });
  const refuse = await asked;
  await fleet.api("POST", "/v1/users/member/subscribe", { channel: "room:10" });
  await fleet.api("POST", "/v1/users/member/send", { event: "told", data: 1 });
  await client.next(({ event }) => event === "told");
  refuse();
  expect(await own).toMatchObject({ ok: true, channel: "room:10", grant: expect.any(String) as string });
  await fleet.api("POST", "/v1/publish", { channel: "room:10", event: "after", data: 2 });
  await client.next(({ event }) => event === "after");
  expect(client.received.map(({ event }) => event)).toEqual(["told", "after"]);
});

test("USR-6: bad input to subscribe and unsubscribe is refused", async () => {
  for (const path of ["subscribe", "unsubscribe"]) {
    const answer = await fleet.api("POST", `/v1/users/led/${path}`, { channel: "no channel" });
    expect([answer.status, answer.body["code"]]).toEqual([400, "invalid_request"]);
  }
});

test("RES-2: sessions are listed while they last", async () => {
  const client = await connectClient(one, { sub: "listed" });
  const list = async (): Promise<unknown> => (await fleet.api("GET", "/v1/users/listed/sessions")).body["sessions"];
  expect(await list()).toMatchObject([{ sessionId: client.welcome.sessionId, node: "node-1" }]);
  client.socket.disconnect();
  await eventually(async () => ((await list()) as unknown[]).length === 0);
  expect((await resume(two, client)).welcome).toMatchObject({ resumed: true, sessionId: client.welcome.sessionId });
});
