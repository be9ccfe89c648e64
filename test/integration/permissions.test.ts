/** Permissions that a service takes away from sessions that are connected: docs/permissions.md. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { allHave } from "../support/broker-health.ts";
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
/** What the hooks answer. */
let connectHook: { status: number; body: object };
type AnswerHook = (body: object, status?: number) => void;
/** Questions of the connect hook that tests answer by themselves, in order. */
let held: ((answer: AnswerHook) => void)[];

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: {
      namespaces: { open: { access: "user" } },
      services: { hooks: { url: service.url, secret: serviceSecret } },
      hooks: { connect: "hooks", subscribe: "hooks" },
    },
  });
  [one = "", two = ""] = fleet.urls;
});
beforeEach(() => {
  held = [];
  connectHook = { status: 200, body: { channels: ["team:*"] } };
  service.answer = (request, response) => {
    const hold = request.path === "/tidegate/connect" ? held.shift() : undefined;
    if (hold) hold((body, status = 200) => answerJson(response, body, status));
    else if (request.path === "/tidegate/connect") answerJson(response, connectHook.body, connectHook.status);
    else answerJson(response, {}, 403);
  };
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  await redis.stop();
});

const seconds = (): number => Math.floor(Date.now() / 1000);

/** The next question of the connect hook that nobody holds yet waits. Resolves once it is asked, with its answer to give. */
function holdAnswer(): Promise<AnswerHook> {
  const { promise, resolve: hold } = Promise.withResolvers<AnswerHook>();
  held.push(hold);
  return promise;
}

function resume(url: string, before: StockClient, auth: object): Promise<StockClient> {
  return connectClient(url, {}, { token: undefined, resume: before.welcome.resumeToken, ...auth });
}

async function revoked(client: StockClient, channel: string): Promise<void> {
  await client.next(({ event, data }) => event === "sync:revoked" && (data as { channel: string }).channel === channel);
}

async function codeOf(client: StockClient, channel: string): Promise<string | undefined> {
  return (await client.request("sync:subscribe", { channel })).error?.code;
}

test("PERM-1: a refresh asks the connect hook again, and what it no longer grants is revoked", async () => {
  const client = await connectClient(one, { sub: "rita" });
  await client.subscribe("team:7");
  await client.subscribe("board:1");
  connectHook.body = { channels: ["other:*"] };
  expect((await client.request("sync:refresh", { token: await userToken({ sub: "rita", n: 2 }) })).ok).toBe(true);
  await revoked(client, "team:7");
  await client.subscribe("other:1");
  expect(await codeOf(client, "team:7")).toBe("channel_not_allowed");
  expect(client.received.filter(({ event }) => event === "sync:revoked")).toHaveLength(1);
  // The resume token from before brings nothing back.
  const again = await resume(two, client, {});
  expect(again.welcome.resumed).toBe(true);
  expect(await codeOf(again, "team:7")).toBe("channel_not_allowed");
});

test("PERM-1: a resume asks the connect hook again with a newer token, not with its own", async () => {
  const token = await userToken({ sub: "rosa" });
  const before = await connectClient(one, {}, { token });
  connectHook.body = {};
  const same = await resume(two, before, { token });
  await same.subscribe("team:7");
  const newer = await resume(one, same, { token: await userToken({ sub: "rosa", n: 2 }) });
  expect(newer.welcome).toMatchObject({ resumed: true, sessionId: before.welcome.sessionId });
  expect(await codeOf(newer, "team:7")).toBe("channel_not_allowed");
  const older = await resume(two, before, {});
  expect(await codeOf(older, "team:7")).toBe("channel_not_allowed");
});

test("PERM-1: of two answers of the connect hook, the one to the later question counts", async () => {
  const client = await connectClient(one, { sub: "rafa" });
  await client.subscribe("team:7");
  const [first, second] = [holdAnswer(), holdAnswer()];
  const wide = client.request("sync:refresh", { token: await userToken({ sub: "rafa", n: 2 }) });
  const answerWide = await first;
  await fleet.api("POST", "/v1/users/rafa/refresh");
  const answerNarrow = await second;
  answerNarrow({});
  await revoked(client, "team:7");
  answerWide({ channels: ["team:*"] });
  expect((await wide).error).toMatchObject({ code: "upstream_unavailable", retryable: true });
  expect(await codeOf(client, "team:7")).toBe("channel_not_allowed");
});

test("PERM-1: a refusal that follows a newer token still ends the session", async () => {
  const client = await connectClient(one, { sub: "rolf" });
  const [first, second] = [holdAnswer(), holdAnswer()];
  const wide = client.request("sync:refresh", { token: await userToken({ sub: "rolf", n: 2 }) });
  const answerWide = await first;
  await fleet.api("POST", "/v1/users/rolf/refresh");
  const refuse = await second;
  answerWide({ channels: ["team:*"] });
  expect((await wide).ok).toBe(true);
  refuse({}, 403);
  const told = await client.next(({ event }) => event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "revoked", reconnect: false });
});

test("PERM-2: a hook that refuses at a refresh ends the session, and its resume tokens are void", async () => {
  const client = await connectClient(one, { sub: "bert" });
  connectHook = { status: 403, body: { code: "banned", message: "until Monday" } };
  const { error } = await client.request("sync:refresh", { token: await userToken({ sub: "bert", n: 2 }) });
  expect(error).toMatchObject({ code: "banned", message: "until Monday", retryable: false });
  const told = await client.next(({ event }) => event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "revoked", reconnect: false });
  await client.disconnected;
  const refusal = await refusedConnect(two, { resume: client.welcome.resumeToken });
  expect(refusal.code).toBe("unauthenticated");
});

test("PERM-2: a hook that refuses at a resume refuses it, and the session resumes nowhere", async () => {
  const client = await connectClient(one, { sub: "bella" });
  connectHook = { status: 403, body: {} };
  const { resumeToken } = client.welcome;
  const newer = await userToken({ sub: "bella", n: 2 });
  expect((await refusedConnect(two, { token: newer, resume: resumeToken })).code).toBe("forbidden");
  const told = await client.next(({ event }) => event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "disconnected", reconnect: false });
  expect((await refusedConnect(two, { resume: resumeToken })).code).toBe("unauthenticated");
});

test("PERM-2: without a decision a session keeps its token and what it had", async () => {
  const before = await connectClient(one, { sub: "hans" });
  await before.subscribe("team:7");
  connectHook.status = 500;
  const token = await userToken({ sub: "hans", n: 2, exp: seconds() + 7_200 });
  const { error } = await before.request("sync:refresh", { token });
  expect(error).toMatchObject({ code: "upstream_unavailable", retryable: true });
  expect(before.received).toEqual([]);
  const after = await resume(two, before, { token });
  expect(after.welcome).toMatchObject({ resumed: true, expiresAt: before.welcome.expiresAt });
  await after.subscribe("team:7");
});

test("PERM-3: an unsubscribe by the API holds for channels of the token until a newer token", async () => {
  const claims = { sub: "kay", iat: seconds() - 60 };
  const token = await userToken(claims);
  const client = await connectClient(one, {}, { token });
  for (const channel of ["board:1", "team:7", "open:1"]) await client.subscribe(channel);
  for (const channel of ["board:1", "team:7"]) {
    await fleet.api("POST", "/v1/users/kay/unsubscribe", { channel });
    await revoked(client, channel);
    expect(await codeOf(client, channel)).toBe("channel_not_allowed");
  }
  await client.subscribe("board:2");
  // Neither a resume nor a new session with that token brings them back.
  for (const auth of [{ resume: client.welcome.resumeToken }, { token }]) {
    const again = await connectClient(two, {}, { token: undefined, ...auth });
    expect(await codeOf(again, "board:1")).toBe("channel_not_allowed");
  }
  const newer = await connectClient(two, {}, { token: await userToken({ ...claims, iat: seconds() + 5 }) });
  await newer.subscribe("open:1");
  await fleet.api("POST", "/v1/users/kay/subscribe", { channel: "board:1" });
  await newer.next(({ event }) => event === "sync:subscribed");
});

test("PERM-3: a token without iat counts as issued when its session first presents it", async () => {
  const token = await userToken({ sub: "noa" });
  let client = await connectClient(one, {}, { token });
  await client.subscribe("board:1");
  await fleet.api("POST", "/v1/users/noa/unsubscribe", { channel: "board:1" });
  await revoked(client, "board:1");
  expect(await codeOf(client, "board:1")).toBe("channel_not_allowed");
  // Neither a refresh with the same token nor a resume makes it newer.
  expect((await client.request("sync:refresh", { token })).ok).toBe(true);
  expect(await codeOf(client, "board:1")).toBe("channel_not_allowed");
  client = await resume(two, client, {});
  expect(await codeOf(client, "board:1")).toBe("channel_not_allowed");
  expect((await client.request("sync:refresh", { token: await userToken({ sub: "noa", n: 2 }) })).ok).toBe(true);
  await client.subscribe("board:1");
});

test("PERM-4: a service has permissions checked again on all nodes, and clients hear of it", async () => {
  const clients = await Promise.all([one, two].map((url) => connectClient(url, { sub: "role" })));
  for (const client of clients) await client.subscribe("team:7");
  connectHook.body = { channels: ["other:*"] };
  expect((await fleet.api("POST", "/v1/users/role/refresh")).status).toBe(202);
  for (const client of clients) {
    await client.next(({ event }) => event === "sync:refresh");
    await revoked(client, "team:7");
    await client.subscribe("other:1");
    const again = await resume(two, client, {});
    expect(again.welcome.resumed).toBe(true);
    expect(await codeOf(again, "team:7")).toBe("channel_not_allowed");
  }
});

test("PERM-4: a client that was away resumes with what the connect hook grants now", async () => {
  const before = await connectClient(one, { sub: "rhea" });
  before.socket.disconnect();
  connectHook.body = { channels: ["other:*"] };
  await fleet.api("POST", "/v1/users/rhea/refresh");
  const after = await resume(two, before, {});
  expect(await codeOf(after, "team:7")).toBe("channel_not_allowed");
  await after.subscribe("other:1");
  connectHook = { status: 403, body: {} };
  await fleet.api("POST", "/v1/users/rhea/refresh");
  await after.disconnected;
  expect((await refusedConnect(one, { resume: after.welcome.resumeToken })).code).toBe("unauthenticated");
});

test("PERM-4: a session that begins while a service changes the role has the new one", async () => {
  const first = holdAnswer();
  const connecting = connectClient(one, { sub: "ruth" });
  const answerOld = await first;
  await fleet.api("POST", "/v1/users/ruth/refresh");
  connectHook.body = {};
  answerOld({ channels: ["team:*"] });
  expect(await codeOf(await connecting, "team:7")).toBe("channel_not_allowed");
});

test("PERM-4: a refusal ends the session on all nodes", async () => {
  const clients = await Promise.all([one, two].map((url) => connectClient(url, { sub: "ralf" })));
  connectHook = { status: 403, body: {} };
  await fleet.api("POST", "/v1/users/ralf/refresh");
  for (const client of clients) {
    const told = await client.next(({ event }) => event === "sync:disconnect");
    expect(told.data).toMatchObject({ code: "revoked", reconnect: false });
  }
});

test("PERM-1: while the store is away an answer still takes effect, and the log warns of resume tokens", async () => {
  const client = await connectClient(one, { sub: "ruth" });
  await client.subscribe("team:7");
  connectHook.body = {};
  redis.signal("SIGSTOP");
  try {
    expect((await client.request("sync:refresh", { token: await userToken({ sub: "ruth", n: 2 }) })).ok).toBe(true);
    await revoked(client, "team:7");
    expect(fleet.log()).toContain("resume tokens still hold what the connect hook does not grant any more");
  } finally {
    redis.signal("SIGCONT");
  }
  // A node that lacks it still takes a resume unchecked.
  await allHave(fleet, "200 ok");
  // Once it is back, a service has the hook asked for earlier resume tokens too.
  await eventually(async () => (await fleet.api("POST", "/v1/users/ruth/refresh")).status === 202);
  const again = await resume(two, client, {});
  expect(await codeOf(again, "team:7")).toBe("channel_not_allowed");
});
