import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Channel, type Client, connect, type Position, type TidegateError } from "../../client/src/index.ts";
import { gatewaySettings } from "../../gateway/config.ts";
import { createGateway, type Gateway } from "../../gateway/gateway.ts";
import { privateApiSettings } from "../../private-api/config.ts";
import { createPrivateApi, type PrivateApi } from "../../private-api/private-api.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { freePort } from "../support/processes.ts";
import { reached } from "../unit/client-fake-gateway.ts";

const jwtSecret = "a secret that is long enough for HS256";
const apiToken = "token-of-the-documents-service";
const relayToken = "token-of-the-gateway-itself";

let stores: Stores;
let service: Server;
let privateApi: PrivateApi;
let gateway: Gateway;
let port: number;
let client: Client;

let tokensGiven = 0;

function token(): Promise<string> {
  tokensGiven++;
  return tokenOf("ada");
}

function tokenOf(user: string): Promise<string> {
  const claims = { channels: ["board:*", "room:*"] };
  const jwt = new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).setSubject(user);
  return jwt.setExpirationTime("10m").sign(new TextEncoder().encode(jwtSecret));
}

function newGateway(): Gateway {
  const config = gatewaySettings.read(
    {
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: "0",
      GATEWAY_NODE: "n1",
      GATEWAY_DRAIN_SECONDS: "0",
      PRIVATE_API_URL: `http://127.0.0.1:${privateApi.door.port}`,
      PRIVATE_API_TOKEN: relayToken,
      AUTH_JWT_SECRET: jwtSecret,
    },
    { embedded: true },
  );
  return createGateway({ config, environment: {}, ...stores, logger: quietLogger });
}

async function api(path: string, body: object, method = "POST"): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${privateApi.door.port}${path}`, {
    method,
    headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

function publish(data: unknown): Promise<unknown> {
  return api("/v1/publish", { channel: "board:1", event: "moved", data });
}

async function echo(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.stringify({ got: JSON.parse(Buffer.concat(chunks).toString()) });
}

beforeEach(async () => {
  service = createServer((request, response) => {
    void echo(request).then((body) => response.setHeader("content-type", "application/json").end(body));
  });
  // Nobody else takes the port of a service that is down.
  service.listen(await freePort(), "127.0.0.1");
  await once(service, "listening");
  stores = createStores(undefined, quietLogger);
  await stores.start();
  const tokens = [
    { name: "documents", token: apiToken, scopes: ["publish", "users", "rules"] },
    { name: "gateway", token: relayToken, scopes: ["relay"] },
  ];
  const settings = {
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: "0",
    PRIVATE_API_TOKENS: JSON.stringify(tokens),
  };
  const config = privateApiSettings.read(settings, { embedded: true });
  privateApi = createPrivateApi({ config, environment: {}, ...stores, logger: quietLogger });
  await privateApi.start();
  const url = `http://127.0.0.1:${(service.address() as AddressInfo).port}`;
  const rules = {
    namespaces: { room: { presence: true, joinLeave: true } },
    services: { documents: { url, secret: `whsec_${Buffer.alloc(32, 7).toString("base64")}` } },
    routes: [{ event: "doc.*", service: "documents", path: "/events/{event}", mode: "call" }],
  };
  await api("/v1/rules", rules, "PUT");
  port = await freePort();
  gateway = newGateway();
  await gateway.start();
  client = connect({ url: `http://127.0.0.1:${port}`, token, random: () => 0 });
});

afterEach(async () => {
  client.close();
  await gateway.stop();
  await privateApi.stop();
  await stores.stop();
  service.close();
});

describe("client against the gateway", () => {
  test("publications reach a subscribed channel in order, messages reach the user", async () => {
    const board = client.channel("board:1");
    const seen: unknown[] = [];
    board.on("moved", (data) => seen.push(data));
    const note = new Promise((resolve) => client.onMessage("note", resolve));
    expect(await board.subscribe()).toMatchObject({ recovered: false, position: { offset: 0 } });
    for (let data = 1; data <= 20; data++) await publish(data);
    await api("/v1/users/ada/send", { event: "note", data: "hello" });
    expect(await note).toBe("hello");
    await eventually(() => seen.length === 20);
    expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect((await board.history({ after: 18, limit: 10 })).publications.map(({ data }) => data)).toEqual([19, 20]);
  });

  test("a call returns the service's answer, or no_route", async () => {
    await reached(client, "connected");
    expect(await client.call("doc.get", { id: 7 })).toEqual({ got: { id: 7 } });
    await expect(client.call("nobody.listens")).rejects.toMatchObject({ code: "no_route", retryable: false });
  });

  test("SDK-13: no call of a burst is refused for its rate, and the connection is kept", async () => {
    const { sessionId } = await reached(client, "connected");
    const states: string[] = [];
    client.onState(({ status }) => states.push(status));
    const burst = await Promise.allSettled(
      Array.from({ length: 1_200 }, async (_, id) => client.call("doc.get", { id })),
    );
    const answered = burst.filter(({ status }) => status === "fulfilled");
    const refused = burst.flatMap((result) => (result.status === "rejected" ? [result.reason as TidegateError] : []));
    expect(answered.length).toBeGreaterThanOrEqual(200);
    expect([...new Set(refused.map(({ code }) => code))]).toEqual(["queue_full"]);
    expect(states).toEqual([]);
    expect(client.state).toMatchObject({ status: "connected", sessionId });
  });

  test("SDK-2: a reconnect resumes the session and fetches no token", async () => {
    const first = await reached(client, "connected");
    expect(first.resumed).toBe(false);
    const given = tokensGiven;
    await gateway.stop();
    await reached(client, "waiting");
    gateway = newGateway();
    await gateway.start();
    expect(await reached(client, "connected")).toMatchObject({ sessionId: first.sessionId, resumed: true });
    expect(tokensGiven).toBe(given);
  });

  test("SDK-3: a subscription by the server survives a reconnect and ends by the server", async () => {
    await reached(client, "connected");
    const seen: unknown[] = [];
    const subscribed = new Promise<Channel>((resolve) => client.onSubscribed(resolve));
    await api("/v1/users/ada/subscribe", { channel: "news:1" });
    const news = await subscribed;
    news.on("item", (data) => seen.push(data));
    const publishNews = (data: number): Promise<unknown> =>
      api("/v1/publish", { channel: "news:1", event: "item", data });
    await publishNews(1);
    await eventually(() => seen.length === 1);
    await gateway.stop();
    await reached(client, "waiting");
    await publishNews(2);
    gateway = newGateway();
    await gateway.start();
    await eventually(() => seen.length === 2);
    await publishNews(3);
    await eventually(() => seen.length === 3);
    expect(seen).toEqual([1, 2, 3]);
    const ended = new Promise((resolve) => news.onEnd(resolve));
    await api("/v1/users/ada/unsubscribe", { channel: "news:1" });
    expect(await ended).toMatchObject({ channel: "news:1", code: "revoked" });
    await expect(news.subscribe()).rejects.toMatchObject({ code: "channel_not_allowed" });
  });

  test("presence lists the members, joins and leaves are reported", async () => {
    const room = client.channel("room:1");
    const heard: string[] = [];
    room.onJoin(({ user }) => heard.push(`${user} joined`));
    room.onLeave(({ user }) => heard.push(`${user} left`));
    await room.subscribe();
    const other = connect({ url: `http://127.0.0.1:${port}`, token: () => tokenOf("grace") });
    await other.channel("room:1").subscribe();
    await eventually(() => heard.includes("grace joined"));
    const presence = await room.presence();
    expect("members" in presence && presence.members.map(({ user }) => user).sort()).toEqual(["ada", "grace"]);
    other.close();
    await eventually(() => heard.includes("grace left"));
    expect(heard.filter((line) => line.startsWith("grace"))).toEqual(["grace joined", "grace left"]);
    await expect(client.channel("board:1").presence()).rejects.toMatchObject({ code: "not_subscribed" });
  });

  test("SDK-4: a call with repeat survives a restart of its service", async () => {
    await reached(client, "connected");
    const { port: servicePort } = service.address() as AddressInfo;
    service.closeAllConnections();
    service.close();
    await once(service, "close");
    await expect(client.call("doc.get", 1)).rejects.toMatchObject({ code: "upstream_unavailable", retryable: true });
    const call = client.call("doc.get", 2, { id: "action-2", repeat: true });
    service.listen(servicePort, "127.0.0.1");
    expect(await call).toEqual({ got: 2 });
  });

  test("SDK-5: a call made while the gateway is down is answered after its restart", async () => {
    await reached(client, "connected");
    await gateway.stop();
    await reached(client, "waiting");
    const calls = [1, 2, 3].map((data) => client.call("doc.get", data, { offline: true }));
    gateway = newGateway();
    await gateway.start();
    expect(await Promise.all(calls)).toEqual([{ got: 1 }, { got: 2 }, { got: 3 }]);
  });

  test("SDK-6: the caller gets the conflict of a publish and retries from its position", async () => {
    const board = client.channel("board:1");
    const { position } = await board.subscribe();
    await publish("first");
    service.removeAllListeners("request");
    service.on("request", (request, response) => {
      void echo(request).then(async (body) => {
        const expect = (JSON.parse(body) as { got: Position }).got;
        const item = { channel: "board:1", event: "moved", data: "second", expect };
        const answer = await fetch(`http://127.0.0.1:${privateApi.door.port}/v1/publish`, {
          method: "POST",
          headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
          body: JSON.stringify(item),
        });
        const {
          code,
          detail: message,
          position,
          publications,
          ...rest
        } = (await answer.json()) as Record<string, unknown>;
        response.writeHead(answer.status).end(JSON.stringify({ code, message, position, publications, ...rest }));
      });
    });
    const error = await client.call("doc.move", position).then(
      () => expect.unreachable(),
      (error: unknown) => error as TidegateError,
    );
    expect(error.conflict).toEqual({
      position: { ...position, offset: 1 },
      publications: [{ offset: 1, event: "moved", data: "first" }],
    });
    expect(await client.call("doc.move", error.conflict?.position)).toMatchObject({ offset: 2 });
  });

  test("SDK-9: the bootstrap endpoint gives the client its address and group", async () => {
    const asking = connect({ bootstrap: `http://127.0.0.1:${port}/v1/bootstrap`, token });
    await reached(asking, "connected");
    expect(asking.bootstrap).toMatchObject({ url: `http://127.0.0.1:${port}`, group: "default", config: {} });
    asking.close();
  });

  test("a channel that the token does not allow is refused", async () => {
    await expect(client.channel("other:1").subscribe()).rejects.toMatchObject({ code: "channel_not_allowed" });
  });

  test("publications during a gateway restart arrive afterwards, each once and in order", async () => {
    const board = client.channel("board:1");
    const seen: unknown[] = [];
    board.on("moved", (data) => seen.push(data));
    await board.subscribe();
    await publish(1);
    await eventually(() => seen.length === 1);
    await gateway.stop();
    await reached(client, "waiting");
    await publish(2);
    await publish(3);
    gateway = newGateway();
    await gateway.start();
    await eventually(() => seen.length === 3);
    await publish(4);
    await eventually(() => seen.length === 4);
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  test("a user disconnected by the API reconnects only if the API allows it", async () => {
    const first = await reached(client, "connected");
    const gone = new Promise<string>((resolve) => {
      const stop = client.onState((state) => {
        stop();
        resolve(state.status);
      });
    });
    await api("/v1/users/ada/disconnect", { reason: "moved", reconnect: true });
    expect(await gone).toBe("waiting");
    const second = await reached(client, "connected");
    expect(second.sessionId).toBe(first.sessionId);
    await api("/v1/users/ada/disconnect", { reason: "banned" });
    expect((await reached(client, "closed")).reason).toMatchObject({ code: "disconnected", message: "banned" });
  });

  test("an invalid token closes the client", async () => {
    const stranger = connect({ url: `http://127.0.0.1:${port}`, token: "not a token" });
    expect((await reached(stranger, "closed")).reason).toMatchObject({ code: "unauthenticated", retryable: false });
  });
});
