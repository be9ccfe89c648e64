/** Events from clients: the service that gets them, its request, how long a call waits, and events that are refused. */
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { decodeJwt, jwtVerify } from "jose";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";
import { closeClients, connectClient, type StockClient, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
let service: HttpService;
/** Accepts connections and never answers. */
let mute: Server;
const newSecret = `whsec_${Buffer.from("the next secret of that service!").toString("base64")}`;

beforeAll(async () => {
  service = await startService();
  const silent = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const silentPort = (silent.address() as AddressInfo).port;
  silent.unref();
  mute = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(mute, "listening");
  const mutePort = (mute.address() as AddressInfo).port;
  const route = (event: string, name: string, path = "/events"): object => ({
    event,
    service: name,
    path,
    mode: "call",
  });
  fleet = await startFleet({
    rules: {
      services: {
        documents: { url: `${service.url}/base`, secret: serviceSecret, timeoutMs: 60_000 },
        hasty: { url: service.url, secret: serviceSecret, timeoutMs: 1_000 },
        rotating: { url: service.url, secrets: [newSecret, "env:SERVICE_SECRET"] },
        narrow: { url: service.url, secret: serviceSecret, maxInFlight: 1, timeoutMs: 60_000 },
        gone: { url: `http://127.0.0.1:${await freePort()}`, secret: serviceSecret },
        handshakeless: { url: `https://127.0.0.1:${mutePort}`, secret: serviceSecret },
        cutting: { url: `http://127.0.0.1:${silentPort}`, secret: serviceSecret },
      },
      routes: [
        route("doc.*", "documents", "/events/{event}"),
        route("doc.edit", "documents", "/edits"),
        route("doc.edit.*", "documents", "/deep"),
        route("hasty", "hasty"),
        route("rotating", "rotating"),
        route("narrow", "narrow"),
        route("gone", "gone"),
        route("cutting", "cutting"),
        route("handshakeless", "handshakeless"),
        route("error", "documents", "/error"),
      ],
    },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  mute.close();
});

async function newClient(claims: Record<string, unknown> = {}): Promise<StockClient> {
  service.answer = (request, response) =>
    answerJson(response, { path: request.path, body: JSON.parse(request.body) as unknown });
  return connectClient(fleet.urls[0] ?? "", claims);
}

test("CALL-1: the body is the client's data and nothing else; the answer is the ack", async () => {
  const client = await newClient();
  const ack = await client.request("doc.open", { id: 7, text: "ä ✓ \u2028" });
  expect(ack).toEqual({ ok: true, data: { path: "/base/events/doc.open", body: { id: 7, text: "ä ✓ \u2028" } } });
  expect((await client.request("doc.open")).data).toMatchObject({ body: null });
});

test("CALL-2: an exact route wins, then the longest prefix", async () => {
  const client = await newClient();
  const pathOf = async (event: string): Promise<unknown> =>
    ((await client.request(event, 1)).data as { path: string }).path;
  expect(await pathOf("doc.edit")).toBe("/base/edits");
  expect(await pathOf("doc.edit.title")).toBe("/base/deep");
  expect(await pathOf("doc.a:b")).toBe("/base/events/doc.a%3Ab");
});

test("CALL-3: the request is a CloudEvent that names event, user, session and tenant", async () => {
  const user = "Ada Ünlü 100%";
  const client = await newClient({ sub: user, tenant: "acme" });
  await client.request("doc.open", {}, { timeoutMs: 20_000 });
  const headers = service.requests.at(-1)?.headers ?? {};
  expect(headers).toMatchObject({
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-type": "doc.open",
    "ce-source": "/tidegate/socket",
    "ce-session": client.welcome.sessionId,
    "ce-tenant": "acme",
    traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/) as string,
  });
  expect(decodeURIComponent(String(headers["ce-subject"]))).toBe(user);
  expect(Date.parse(String(headers["ce-time"]))).toBeGreaterThan(Date.now() - 60_000);
  expect(headers["webhook-id"]).toBe(headers["ce-id"]);
  expect(headers["ce-id"]).not.toContain(".");
  expect(Number(headers["tidegate-timeout-ms"])).toBeLessThanOrEqual(20_000);
});

test("CALL-25: a request continues the client's trace; without one it begins a sampled trace", async () => {
  const client = await newClient();
  const [trace, span] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
  for (const flags of ["00", "01"]) {
    await client.request("doc.open", {}, { traceparent: `00-${trace}-${span}-${flags}` });
    const sent = String(service.requests.at(-1)?.headers["traceparent"]);
    expect(sent).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-${flags}$`));
    expect(sent).not.toContain(span);
  }
  await client.request("doc.open", {});
  expect(service.requests.at(-1)?.headers["traceparent"]).toMatch(/-01$/);
  for (const traceparent of ["nonsense", `00-${"0".repeat(32)}-${span}-01`, `ff-${trace}-${span}-01`]) {
    expect((await client.request("doc.open", {}, { traceparent })).error?.code).toBe("invalid_request");
  }
});

test("CALL-4: ordinary libraries check the signature and the caller's identity", async () => {
  const client = await newClient({ tenant: "acme", role: "editor" });
  await client.request("doc.open", { text: "signed" });
  const { headers, body } = service.requests.at(-1) ?? { headers: {}, body: "" };
  const webhook = new Webhook(serviceSecret);
  expect(webhook.verify(body, headers as Record<string, string>)).toEqual({ text: "signed" });
  expect(() => webhook.verify(`${body} `, headers as Record<string, string>)).toThrow();
  const token = String(headers["authorization"]).replace("Bearer ", "");
  const { payload } = await jwtVerify(token, new TextEncoder().encode(serviceSecret), { audience: "documents" });
  expect(payload).toMatchObject({
    sub: "ada",
    sid: client.welcome.sessionId,
    tenant: "acme",
    claims: { role: "editor" },
  });
  expect(payload.exp).toBeGreaterThan(Date.now() / 1000);
});

test("CALL-5: during rotation each secret signs the request, the first one the identity", async () => {
  const client = await newClient();
  await client.request("rotating", {});
  const { headers, body } = service.requests.at(-1) ?? { headers: {}, body: "" };
  for (const secret of [newSecret, serviceSecret]) {
    expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toEqual({});
  }
  const token = String(headers["authorization"]).replace("Bearer ", "");
  const [head = "", payload = "", signature] = token.split(".");
  expect(createHmac("sha256", newSecret).update(`${head}.${payload}`).digest("base64url")).toBe(signature);
  expect(decodeJwt(token).aud).toBe("rotating");
});

test("CALL-6: one id gives one ce-id per user", async () => {
  const [ada, grace] = [await newClient(), await newClient({ sub: "grace" })];
  const idOf = async (client: StockClient, options: object): Promise<unknown> => {
    await client.request("doc.open", {}, options);
    return service.requests.at(-1)?.headers["ce-id"];
  };
  const first = await idOf(ada, { id: "order.1" });
  expect(first).not.toContain(".");
  expect(await idOf(ada, { id: "order.1" })).toBe(first);
  const others = [await idOf(ada, { id: "order.2" }), await idOf(grace, { id: "order.1" }), await idOf(ada, {})];
  expect(new Set([first, ...others]).size).toBe(4);
});

describe("waits and limits", () => {
  test("CALL-18: a call without a connection in time is not sent, and delays no other call", async () => {
    const [client, other] = [await newClient(), await newClient()];
    const { promise: held, resolve: hold } = Promise.withResolvers<() => void>();
    service.answer = (_request, response) => hold(() => answerJson(response, "held"));
    const slow = other.request("narrow", 1);
    const answer = await held;
    const ack = await client.request("handshakeless", {}, { timeoutMs: 50 });
    expect(ack.error).toMatchObject({ code: "upstream_unavailable", retryable: true });
    answer();
    expect((await slow).data).toBe("held");
  });

  test("CALL-8: a late answer is upstream_timeout, by the service's or the client's shorter limit", async () => {
    const client = await newClient();
    service.answer = () => undefined;
    const limits = {
      hasty: /\d+ ms \(timeoutMs of the service in the rules\);/,
      "doc.open": /within the caller's timeoutMs;/,
    };
    const acks = [client.request("hasty", {}), client.request("doc.open", {}, { timeoutMs: 1_000 })];
    for (const [at, message] of Object.values(limits).entries()) {
      const error = { code: "upstream_timeout", retryable: true, message: expect.stringMatching(message) as string };
      expect((await acks[at])?.error).toMatchObject(error);
    }
  });

  test("CALL-8: a client's longer timeoutMs does not lengthen the service's", async () => {
    const client = await newClient();
    service.answer = () => undefined;
    const ack = client.request("hasty", {}, { timeoutMs: 1_000_000_000 });
    expect((await ack).error?.code).toBe("upstream_timeout");
  });

  test("CALL-9: a closed connection is upstream_timeout, no connection upstream_unavailable", async () => {
    const client = await newClient();
    expect((await client.request("cutting", {})).error).toMatchObject({ code: "upstream_timeout", retryable: true });
    expect((await client.request("gone", {})).error).toMatchObject({ code: "upstream_unavailable", retryable: true });
  });

  test("CALL-11: a slow call delays no other call", async () => {
    const client = await newClient();
    const { promise: held, resolve: hold } = Promise.withResolvers<() => void>();
    service.answer = (request, response) => {
      if (request.body === '"slow"') hold(() => answerJson(response, "slow"));
      else answerJson(response, "quick");
    };
    const slow = client.request("doc.open", "slow");
    const letGo = await held;
    for (let i = 0; i < 20; i++) expect((await client.request("doc.open", i)).data).toBe("quick");
    letGo();
    expect((await slow).data).toBe("slow");
  });

  test("CALL-12: a call that waits past its deadline is not sent: upstream_unavailable", async () => {
    const client = await newClient();
    const { promise: held, resolve: hold } = Promise.withResolvers<() => void>();
    service.answer = (_request, response) => hold(() => answerJson(response, {}));
    const first = client.request("narrow", 1);
    const letGo = await held;
    const waiting = await client.request("narrow", 2, { timeoutMs: 50 });
    expect(waiting.error).toMatchObject({ code: "upstream_unavailable", retryable: true });
    letGo();
    expect((await first).ok).toBe(true);
  });

  test("CALL-12: a service gets at most maxInFlight requests at once; others wait", async () => {
    const client = await newClient();
    let now = 0;
    let most = 0;
    service.answer = (_request, response) => {
      most = Math.max(most, ++now);
      setImmediate(() => {
        now--;
        answerJson(response, {});
      });
    };
    const acks = await Promise.all(Array.from({ length: 30 }, (_, i) => client.request("narrow", i)));
    expect(acks.every((ack) => ack.ok)).toBe(true);
    expect(most).toBe(1);
  });
});

function nested(levels: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < levels; i++) value = [value];
  return value;
}

describe("bad input", () => {
  test.for<[string, string, unknown[], string]>([
    ["an event without a route", "nothing.here", [{}], "no_route"],
    ["an unknown request of the protocol", "sync:teleport", [{}], "unknown_event"],
    ["an event whose name is not allowed", "späte", [{}], "invalid_request"],
    ["binary data", "doc.open", [Buffer.from("abc")], "invalid_request"],
    ["binary deep inside", "doc.open", [{ a: [{ b: Buffer.from("abc") }] }], "invalid_request"],
    ["data nested deeper than 128 levels", "doc.open", [nested(129)], "invalid_request"],
    ["more arguments", "doc.open", [{}, {}, {}], "invalid_request"],
    ["options that are none", "doc.open", [{}, { timeoutMs: "5" }], "invalid_request"],
    ["unknown options", "doc.open", [{}, { retry: true }], "invalid_request"],
    ["data over the limit", "doc.open", ["x".repeat(65_536)], "payload_too_large"],
    ["a subscribe without a channel", "sync:subscribe", [{}], "invalid_request"],
    ["a subscribe with a bad name", "sync:subscribe", [{ channel: "Board" }], "invalid_request"],
    ["a subscribe with an unknown field", "sync:subscribe", [{ channel: "board:1", x: 1 }], "invalid_request"],
    [
      "a subscribe with a bad position",
      "sync:subscribe",
      [{ channel: "board:1", position: { epoch: "a", offset: -1 } }],
      "invalid_request",
    ],
    ["a subscribe without an argument", "sync:subscribe", [], "invalid_request"],
    ["a channel that is not allowed", "sync:subscribe", [{ channel: "secret:1" }], "channel_not_allowed"],
    [
      "a history limit out of range",
      "sync:history",
      [{ channel: "board:1", after: 0, limit: 1_001 }],
      "invalid_request",
    ],
  ])("BAD-1: %s is answered with its code, and the session goes on", async ([, event, args, code]) => {
    const client = await newClient();
    const ack = await client.request(event, ...args);
    expect(ack).toMatchObject({ ok: false, error: { code, retryable: false, message: expect.any(String) as string } });
    expect((await client.request("doc.open", 1)).ok).toBe(true);
  });

  test("BAD-1: data nested deep enough to overflow a stack is refused, whatever its event, and the session stays open", async () => {
    const client = await newClient();
    const acks: string[] = [];
    client.socket.io.engine.on("data", (packet: string) => acks.push(packet));
    let id = 900;
    for (const levels of [4_390, 4_393, 30_000]) {
      for (const name of ['"doc.open"', '"sync:history"', '""', "5"]) {
        client.socket.io.engine.write(`2${++id}[${name},${"[".repeat(levels)}${"]".repeat(levels)}]`);
      }
    }
    expect((await client.request("doc.open", 1)).ok).toBe(true);
    for (; id > 900; id--) {
      const ack = acks.find((packet) => packet.startsWith(`3${id}[`));
      expect(ack, String(id)).toContain('"code":"invalid_request"');
    }
  });

  test("BAD-2: the limit is on UTF-8 bytes of the data as JSON", async () => {
    const client = await newClient();
    expect((await client.request("doc.open", "ä".repeat(32_767))).ok).toBe(true);
    expect((await client.request("doc.open", `${"ä".repeat(32_767)}x`)).error?.code).toBe("payload_too_large");
  });

  test.each(["doc.open", "nothing.here", "späte", "sync:subscribe", "sync:teleport"])(
    "BAD-3: data over twice the limit closes the connection, whatever the event; others stay (%s)",
    async (event) => {
      const [large, other] = [await newClient(), await newClient()];
      const answered = new Promise((resolve) => {
        large.socket.emit(event, "x".repeat(140_000), () => resolve("answered"));
      });
      expect(await Promise.race([large.disconnected, answered])).toMatch(/transport/);
      expect((await other.request("doc.open", 1)).ok).toBe(true);
    },
  );

  test("BAD-4: an event without an ack is routed, and its failure is counted", async () => {
    const client = await newClient();
    client.socket.emit("doc.open", "no ack");
    await eventually(() => service.requests.at(-1)?.body === '"no ack"');
    client.socket.emit("nothing.here", 1);
    const { adminDoor } = fleet.gateways[0] ?? {};
    await eventually(async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${adminDoor?.port}/metrics`)).text();
      return /tidegate_calls_total\{outcome="no_route"\} [1-9]/.test(metrics);
    });
  });

  test("BAD-5: event names that Node treats specially, and numbers, are ordinary events", async () => {
    const client = await newClient();
    expect((await client.request("error", 1)).data).toMatchObject({ path: "/base/error" });
    expect((await client.request(5 as unknown as string, 1)).error?.code).toBe("no_route");
  });

  test("BAD-6: an event name that Socket.IO reserves closes the connection, others stay", async () => {
    const [bad, other] = [await newClient(), await newClient()];
    bad.socket.io.engine.write('2["disconnecting",{}]');
    await bad.disconnected;
    expect((await other.request("doc.open", 1)).ok).toBe(true);
  });

  test("BAD-7: the log has no secret and no token", async () => {
    const token = await userToken();
    const client = await connectClient(fleet.urls[0] ?? "", {}, { token });
    await client.request("doc.open", {});
    await client.request("sync:refresh", { token: "not-a-token" });
    await fleet.api("POST", "/v1/publish", {}, { token: "wrong-token-0123456789" });
    const secrets = [
      serviceSecret,
      newSecret,
      token,
      "wrong-token-0123456789",
      "service-token-of-the-test",
      "relay-token-of-the-test",
    ];
    for (const secret of secrets) expect(fleet.log()).not.toContain(secret);
    expect(fleet.log()).toContain("gateway listening");
  });
});
