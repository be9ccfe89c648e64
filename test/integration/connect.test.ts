/** Which clients connect, and how others are refused. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { connect as connectTcp, type AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { io } from "socket.io-client";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { openRawWebsocket } from "../support/raw-websocket.ts";
import { answerJson } from "../support/http-service.ts";
import { closeClients, connectClient, pollingError, refusedConnect, userToken } from "../support/stock-client.ts";

afterEach(closeClients);
const inOneHour = (): number => Math.floor(Date.now() / 1000) + 3_600;

describe("with a shared secret", () => {
  let fleet: Fleet;
  let url: string;

  beforeAll(async () => {
    fleet = await startFleet({
      rules: { namespaces: { public: { access: "user" } } },
      environment: { AUTH_ISSUER: "https://issuer.example", AUTH_AUDIENCE: "tidegate", GATEWAY_MAX_CONNECTIONS: "2" },
    });
    url = fleet.urls[0] ?? "";
  });
  afterAll(() => fleet.stop());
  const claims = { iss: "https://issuer.example", aud: "tidegate" };

  test("CON-1: a client with a valid token gets a welcome with session id, expiry and limits", async () => {
    const exp = inOneHour();
    const { welcome, socket } = await connectClient(url, { ...claims, exp });
    expect(welcome).toEqual({
      protocol: 1,
      node: "node-1",
      sessionId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      user: "ada",
      resumed: false,
      resumeToken: expect.any(String) as string,
      expiresAt: exp * 1000,
      maxPayloadBytes: 65_536,
      reconnect: { minDelayMs: expect.any(Number) as number, windowMs: expect.any(Number) as number },
    });
    expect(welcome.sessionId).not.toBe(socket.id);
  });

  const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify({ ...claims, sub: "ada", exp: inOneHour() })).toString("base64url")}.`;
  test.for<[string, () => Promise<object>, string]>([
    ["no token", async () => ({}), "unauthenticated"],
    ["a token that is no text", async () => ({ token: 5 }), "unauthenticated"],
    ["a token that is no JWT", async () => ({ token: "abc" }), "unauthenticated"],
    [
      "a forged signature",
      async () => ({ token: await userToken(claims, "another secret, as long as the first") }),
      "unauthenticated",
    ],
    ["alg: none", async () => ({ token: unsigned }), "unauthenticated"],
    ["a wrong audience", async () => ({ token: await userToken({ ...claims, aud: "another" }) }), "unauthenticated"],
    ["a wrong issuer", async () => ({ token: await userToken({ ...claims, iss: "another" }) }), "unauthenticated"],
    ["no sub", async () => ({ token: await userToken({ ...claims, sub: undefined }) }), "unauthenticated"],
    ["no exp", async () => ({ token: await userToken({ ...claims, exp: undefined }) }), "unauthenticated"],
    [
      "a sub that is no well-formed text",
      async () => ({ token: await userToken({ ...claims, sub: "ada \ud83d" }) }),
      "unauthenticated",
    ],
    [
      "channels that are no list",
      async () => ({ token: await userToken({ ...claims, channels: "board:*" }) }),
      "unauthenticated",
    ],
    [
      "an expired token",
      async () => ({ token: await userToken({ ...claims, exp: inOneHour() - 3_700 }) }),
      "token_expired",
    ],
    [
      "an expired one whose sub is an object",
      async () => ({ token: await userToken({ ...claims, sub: { toString: 1 }, exp: inOneHour() - 7_200 }) }),
      "unauthenticated",
    ],
    ["another protocol", async () => ({ token: await userToken(claims), protocol: 2 }), "unsupported_protocol"],
  ])("CON-2: %s is refused in band", async ([, auth, code]) => {
    const refusal = await refusedConnect(url, await auth());
    expect(refusal).toMatchObject({ code, retryable: code === "token_expired", message: expect.any(String) as string });
  });

  test("BAD-2: the refusal of a token of more than 8 KiB says that it is too long", async () => {
    const refusal = await refusedConnect(url, { token: "x".repeat(8 * 1024 + 1) });
    expect(refusal).toMatchObject({ code: "unauthenticated", message: "the token is longer than 8192 characters" });
    expect((await refusedConnect(url, { token: 5 })).message).toMatch(/^auth must be/);
  });

  test("CON-3: a clock that is a few seconds off is tolerated", async () => {
    const { welcome } = await connectClient(url, { ...claims, nbf: Math.floor(Date.now() / 1000) + 5 });
    expect(welcome.user).toBe("ada");
  });

  test("CON-4: past its cap a node refuses with at_capacity until a client leaves", async () => {
    const clients = [await connectClient(url, claims), await connectClient(url, claims)];
    const refusal = await refusedConnect(url, { token: await userToken(claims) });
    expect(refusal).toMatchObject({ code: "at_capacity", retryable: true, retryAfterMs: expect.any(Number) as number });
    for (const client of clients) client.socket.disconnect();
    await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === 0);
    await connectClient(url, claims);
  });

  test("CON-6: a new token extends the session, and revokes what only the old one allowed", async () => {
    const client = await connectClient(url, { ...claims, exp: Math.floor(Date.now() / 1000) - 2 });
    for (const channel of ["board:1", "public:1"]) await client.subscribe(channel);
    const exp = inOneHour();
    const ack = await client.request("sync:refresh", {
      token: await userToken({ ...claims, exp, channels: ["doc:*"] }),
    });
    expect(ack).toEqual({ ok: true, expiresAt: exp * 1000, resumeToken: expect.any(String) as string });
    const revoked = await client.next((item) => item.event === "sync:revoked");
    expect(revoked.data).toMatchObject({ channel: "board:1", reason: expect.any(String) as string });
    expect((await client.request("sync:unsubscribe", { channel: "public:1" })).ok).toBe(true);
    await client.subscribe("doc:1");
  });

  test("CON-7: a refresh fails with a bad token, or one of another user or tenant", async () => {
    const client = await connectClient(url, claims);
    const [grace, elsewhere] = [
      await userToken({ ...claims, sub: "grace" }),
      await userToken({ ...claims, tenant: "other" }),
    ];
    const others = [grace, elsewhere, "abc", await userToken({ ...claims, exp: 1 })];
    for (const token of others) {
      expect((await client.request("sync:refresh", { token })).error?.code).toBe("unauthenticated");
    }
    expect((await client.request("sync:refresh", {})).error?.code).toBe("invalid_request");
    expect(client.socket.connected).toBe(true);
  });

  test("CON-9: a stopping node notifies clients and closes transports, so that they reconnect", async () => {
    const other = await startFleet({});
    const client = await connectClient(other.urls[0] ?? "");
    await other.stop();
    expect(await client.disconnected).toBe("transport close");
    expect(client.received[0]).toMatchObject({ event: "sync:disconnect", data: { code: "draining", reconnect: true } });
  });
});

/** These wait for deadlines of the node, side by side. */
describe.concurrent("in time", () => {
  let fleet: Fleet;
  let url: string;
  beforeAll(async () => {
    fleet = await startFleet({});
    url = fleet.urls[0] ?? "";
  });
  afterAll(() => fleet.stop());

  test("CON-5: a session ends when its token expires, and the client may reconnect", async () => {
    // The clock tolerance is 10 s: seven to eight seconds of it are left for this token.
    const client = await connectClient(url, { exp: Math.floor(Date.now() / 1000) - 2 });
    expect(await client.disconnected).toBe("transport close");
    expect(client.received.at(-1)).toMatchObject({
      event: "sync:disconnect",
      data: { code: "token_expired", reconnect: true },
    });
  });

  test("CON-8: the node closes a connection that does not authenticate", async () => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`);
    await once(socket, "open");
    // The raw client does not answer the closing handshake.
    const raw = await openRawWebsocket(new URL(url));
    raw.resume();
    const rawClosed = new Promise((resolve) => raw.once("close", resolve));
    await Promise.all([once(socket, "close"), rawClosed]);
    expect([socket.readyState, raw.destroyed]).toEqual([WebSocket.CLOSED, true]);
  });
});

describe("from pages of other sites", () => {
  test("CON-10: an unlisted origin is refused at the upgrade; a listed one, or none, connects", async () => {
    const fleet = await startFleet({ environment: { GATEWAY_ALLOWED_ORIGINS: "https://app.example" } });
    onTestFinished(() => fleet.stop());
    const [url = ""] = fleet.urls;
    const attempt = async (origin?: string): Promise<string> => {
      const socket = io(url, {
        transports: ["websocket"],
        forceNew: true,
        reconnection: false,
        auth: { token: await userToken() },
        ...(origin !== undefined && { extraHeaders: { origin } }),
      });
      return new Promise((resolve) => {
        const end = (outcome: string): void => {
          socket.disconnect();
          resolve(outcome);
        };
        socket.on("connect", () => end("connected"));
        socket.on("connect_error", (error: Error & { description?: Error }) => end(String(error.description?.message)));
      });
    };
    expect(await attempt("https://app.example")).toBe("connected");
    expect(await attempt()).toBe("connected");
    expect(await attempt("https://evil.example")).toContain("403");
    // The gateway's own host: sent by a page that it serves, or by the stock Python client.
    expect(await attempt(url)).toBe("connected");
  });
});

describe("with keys from a JWKS", () => {
  let keys: { kid: string; sign: (claims: object) => Promise<string>; jwk: object }[] = [];
  let published: object[] = [];
  let fetches = 0;
  let status = 200;
  let jwks: Server;
  let fleet: Fleet;

  beforeAll(async () => {
    keys = await Promise.all(
      (["RS256", "ES256", "EdDSA"] as const).map(async (alg) => {
        const { publicKey, privateKey } = await generateKeyPair(alg);
        const sign = (claims: object): Promise<string> =>
          new SignJWT({ sub: "ada", exp: inOneHour(), ...claims })
            .setProtectedHeader({ alg, kid: alg })
            .sign(privateKey);
        return { kid: alg, sign, jwk: { ...(await exportJWK(publicKey)), kid: alg, alg, use: "sig" } };
      }),
    );
    jwks = createServer((_request, response) => {
      fetches++;
      answerJson(response, { keys: published }, status);
    }).listen(0, "127.0.0.1");
    await once(jwks, "listening");
    const jwksUrl = `http://127.0.0.1:${(jwks.address() as AddressInfo).port}/keys`;
    fleet = await startFleet({ environment: { AUTH_JWKS_URL: jwksUrl, AUTH_JWT_SECRET: "" } });
  });
  afterAll(async () => {
    await fleet.stop();
    jwks.closeAllConnections();
    jwks.close();
  });

  test("CON-11: while the keys cannot be fetched, a refusal is auth_unavailable and retryable", async () => {
    status = 500;
    const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await keys[0]?.sign({}) });
    expect(refusal).toMatchObject({
      code: "auth_unavailable",
      retryable: true,
      retryAfterMs: expect.any(Number) as number,
    });
    status = 200;
  });

  test("CON-12: RS256, ES256 and EdDSA verify with keys fetched once; foreign keys do not", async () => {
    published = keys.map((key) => key.jwk);
    fetches = 0;
    // The gateway does not repeat a failed fetch at once.
    await eventually(async () =>
      connectClient(fleet.urls[0] ?? "", {}, { token: await keys[0]?.sign({}) }).then(
        () => true,
        () => false,
      ),
    );
    for (const key of keys) {
      const { welcome } = await connectClient(fleet.urls[0] ?? "", {}, { token: await key.sign({}) });
      expect(welcome.user).toBe("ada");
    }
    expect(fetches).toBe(1);
    const { privateKey } = await generateKeyPair("ES256");
    const forged = await new SignJWT({ sub: "ada", exp: inOneHour() })
      .setProtectedHeader({ alg: "ES256", kid: "ES256" })
      .sign(privateKey);
    for (const token of [forged, await userToken()]) {
      expect((await refusedConnect(fleet.urls[0] ?? "", { token })).code).toBe("unauthenticated");
    }
  });
});

describe("with polling off", () => {
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = await startFleet({ rules: {} });
  });
  afterAll(() => fleet.stop());

  test("CON-16: the answer to a stock client that begins with polling says what to change", async () => {
    expect(await pollingError(fleet.urls[0] ?? "")).toMatch(/^xhr poll error: .*transports: \["websocket"\]/);
    const polled = await fetch(`${fleet.urls[0]}/socket.io/?EIO=4&transport=polling`, {
      headers: { origin: "https://app.example" },
    });
    expect([polled.status, polled.headers.get("access-control-allow-origin")]).toEqual([400, "https://app.example"]);
  });
});

test("CON-13: a half-open handshake does not keep the node from serving others", async () => {
  const fleet = await startFleet({});
  onTestFinished(() => fleet.stop());
  const { port } = new URL(fleet.urls[0] ?? "");
  const raw = connectTcp(Number(port), "127.0.0.1");
  await once(raw, "connect");
  onTestFinished(() => void raw.destroy());
  raw.write("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n");
  const { welcome } = await connectClient(fleet.urls[0] ?? "");
  expect(welcome.resumed).toBe(false);
});

test("CON-14: where polling is allowed, a client connects, subscribes and gets publications", async () => {
  const fleet = await startFleet({ environment: { GATEWAY_TRANSPORTS: "polling,websocket" } });
  onTestFinished(() => fleet.stop());
  const socket = io(fleet.urls[0] ?? "", {
    transports: ["polling"],
    forceNew: true,
    auth: { token: await userToken() },
  });
  onTestFinished(() => void socket.disconnect());
  await new Promise((resolve) => socket.once("sync:welcome", resolve));
  expect(await socket.emitWithAck("sync:subscribe", { channel: "board:1" })).toMatchObject({ ok: true });
  const received = new Promise((resolve) => socket.once("moved", (...args) => resolve(args)));
  await fleet.api("POST", "/v1/publish", { channel: "board:1", event: "moved", data: { x: "ä" } });
  expect(await received).toEqual([{ x: "ä" }, { channel: "board:1", offset: 1 }]);
});
