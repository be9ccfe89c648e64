import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ClientState } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/processes.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

/** Collects the statuses from now on. */
function statusesOf(client: ReturnType<typeof open>): ClientState["status"][] {
  const statuses: ClientState["status"][] = [];
  client.onState((state) => statuses.push(state.status));
  return statuses;
}

describe("client connecting", () => {
  test("the welcome makes the client connected and gives it session, user and node", async () => {
    const client = open();
    expect(client.state).toEqual({ status: "connecting" });
    expect(await reached(client, "connected")).toEqual({
      status: "connected",
      sessionId: "s1",
      user: "ada",
      node: "n1",
      resumed: false,
    });
    expect(gateway.handshakes).toEqual([{ token: "token", protocol: 1, moves: true }]);
  });

  test("TEN-3: the connected state has the user's tenant", async () => {
    gateway.welcome = { tenant: "acme" };
    expect(await reached(open(), "connected")).toMatchObject({ user: "ada", tenant: "acme" });
  });

  test("without a resume token the client calls the token function before each attempt", async () => {
    let asked = 0;
    const client = open({ token: async () => `token-${++asked}` });
    await reached(client, "connected");
    gateway.cut();
    await eventually(() => gateway.handshakes.length === 2);
    expect(gateway.handshakes.map((auth) => auth["token"])).toEqual(["token-1", "token-2"]);
  });

  test("a failed token function is called again later", async () => {
    let asked = 0;
    const client = open({
      token: () => {
        if (++asked === 1) throw new Error("offline");
        return "token";
      },
    });
    const waiting = await reached(client, "waiting");
    expect(waiting.reason).toMatchObject({ code: "token_unavailable", retryable: true });
    await reached(client, "connected");
    expect(gateway.handshakes).toHaveLength(1);
  });

  test("a retryable refusal is retried after its retryAfterMs", async () => {
    gateway.refusals.push({ code: "at_capacity", message: "full", retryable: true, retryAfterMs: 150 });
    const client = open();
    const waiting = await reached(client, "waiting");
    expect(waiting).toMatchObject({ retryInMs: 150, reason: { code: "at_capacity", retryAfterMs: 150 } });
    await reached(client, "connected");
    expect(gateway.handshakes).toHaveLength(2);
  });

  test("a final refusal closes the client with its code", async () => {
    gateway.refusals.push({ code: "forbidden", message: "not you", retryable: false });
    const client = open();
    const subscribed = client.channel("board:1").subscribe();
    const { reason } = await reached(client, "closed");
    expect(reason).toMatchObject({ code: "forbidden", message: "not you", retryable: false });
    await expect(subscribed).rejects.toBe(reason);
    await expect(client.call("x")).rejects.toBe(reason);
    await expect(client.channel("board:2").subscribe()).rejects.toBe(reason);
  });

  test("the client fetches a new token at once after token_expired", async () => {
    gateway.refusals.push({ code: "token_expired", message: "expired", retryable: true });
    let asked = 0;
    const client = open({ token: () => `token-${++asked}`, random: () => 0.99 });
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 0, reason: { code: "token_expired" } });
    await reached(client, "connected");
    expect(gateway.handshakes.map((auth) => auth["token"])).toEqual(["token-1", "token-2"]);
  });

  test("an expired fixed token closes the client", async () => {
    gateway.refusals.push({ code: "token_expired", message: "expired", retryable: true });
    const { reason } = await reached(open({ token: "fixed" }), "closed");
    expect(reason.code).toBe("token_expired");
    expect(gateway.handshakes).toHaveLength(1);
  });

  test("an unreachable gateway is retried until it is reachable", async () => {
    await gateway.stop();
    const port = await freePort();
    const client = open({ url: `http://127.0.0.1:${port}` });
    const waiting = await reached(client, "waiting");
    expect(waiting.reason).toMatchObject({ code: "connection_lost", retryable: true });
    gateway = new FakeGateway();
    await gateway.start(port);
    await reached(client, "connected");
  });
});

describe("client behind a load balancer without gateways", () => {
  test("a 503 to the upgrade is retried with backoff like any failure", async () => {
    const door = createServer().on("upgrade", (_request, socket) => {
      socket.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n");
    });
    door.listen(0, "127.0.0.1");
    await once(door, "listening");
    const delays: number[] = [];
    const client = open({ url: `http://127.0.0.1:${(door.address() as AddressInfo).port}`, random: () => 0.05 });
    client.onState((state) => {
      if (state.status === "waiting") delays.push(state.retryInMs);
    });
    await eventually(() => delays.length === 3);
    expect(delays).toEqual([50, 100, 200]);
    client.close();
    door.close();
  });
});

describe("client after a loss", () => {
  test("the first attempt is at a random time in the welcome's reconnect window", async () => {
    gateway.welcome = { reconnect: { minDelayMs: 40, windowMs: 100 } };
    const client = open({ random: () => 0.5 });
    await reached(client, "connected");
    gateway.cut();
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 90, reason: { code: "connection_lost" } });
    expect(await reached(client, "connected")).toMatchObject({ sessionId: "s2" });
  });

  test("after a disconnect with reconnect the client returns after retryAfterMs", async () => {
    const client = open();
    await reached(client, "connected");
    const disconnect = { code: "draining", reason: "deploy", reconnect: true, retryAfterMs: 120 };
    gateway.socket.emit("sync:disconnect", disconnect);
    const waiting = await reached(client, "waiting");
    expect(waiting).toMatchObject({ retryInMs: 120, reason: { code: "draining", message: "deploy" } });
    expect(await reached(client, "connected")).toMatchObject({ sessionId: "s2" });
  });

  test("a client that is to reconnect sends no DISCONNECT packet, which would end its session", async () => {
    const client = open();
    await reached(client, "connected");
    const left = new Promise<string>((resolve) => gateway.socket.once("disconnect", resolve));
    gateway.socket.emit("sync:disconnect", { code: "draining", reason: "deploy", reconnect: true });
    expect(await left).toBe("transport close");
  });

  test("a disconnect without reconnect closes the client", async () => {
    const client = open();
    await reached(client, "connected");
    gateway.socket.emit("sync:disconnect", { code: "disconnected", reason: "banned", reconnect: false });
    const { reason } = await reached(client, "closed");
    expect(reason).toMatchObject({ code: "disconnected", message: "banned", retryable: false });
  });

  test("a DISCONNECT packet closes the client even without sync:disconnect", async () => {
    const client = open();
    await reached(client, "connected");
    gateway.socket.disconnect();
    expect((await reached(client, "closed")).reason.code).toBe("disconnected");
  });

  test("close is final, sends a DISCONNECT packet, and is idempotent", async () => {
    const client = open();
    await reached(client, "connected");
    const left = new Promise<string>((resolve) => gateway.socket.once("disconnect", resolve));
    const statuses = statusesOf(client);
    client.close();
    client.close();
    expect(client.state).toMatchObject({ status: "closed", reason: { code: "closed" } });
    expect(await left).toBe("client namespace disconnect");
    expect(statuses).toEqual(["closed"]);
  });

  test("a client closed during its token function never connects", async () => {
    let giveToken!: (token: string) => void;
    const token = new Promise<string>((resolve) => (giveToken = resolve));
    const client = open({ token: () => token });
    client.close();
    giveToken("token");
    const other = open();
    await reached(other, "connected");
    expect(gateway.handshakes).toHaveLength(1);
  });

  test("SDK-1: a client that a listener closes as it connects again asks for no token", async () => {
    let asked = 0;
    const client = open({ token: async () => `token-${++asked}` });
    await reached(client, "connected");
    client.onState(({ status }) => void (status === "connecting" && client.close()));
    gateway.cut();
    await reached(client, "closed");
    expect(asked).toBe(1);
  });
});

describe("client token refresh", () => {
  test("the client refreshes its token before the expiry and presents the new resume token", async () => {
    gateway.welcome = { expiresAt: Date.now() + 1_500, resumeToken: "old" };
    let asked = 0;
    const client = open({ token: () => `token-${++asked}` });
    gateway.onRequest = ({ answer }) => {
      gateway.welcome = {};
      answer({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken: "new" });
      return true;
    };
    const refresh = await gateway.request("sync:refresh");
    expect(refresh.data).toEqual({ token: "token-2" });
    expect(client.state.status).toBe("connected");
    await expect(client.call("after.refresh")).resolves.toBeUndefined();
    gateway.cut();
    await eventually(() => gateway.handshakes.length === 2);
    expect(gateway.handshakes[1]).toMatchObject({ token: "token-2", resume: "new" });
  });

  test("the client presents the grants that a refresh renewed", async () => {
    gateway.welcome = { expiresAt: Date.now() + 1_500 };
    const client = open({ token: () => "token" });
    gateway.onRequest = (request) => {
      const { event, answer } = request;
      if (event === "sync:refresh") return false;
      if (event !== "sync:subscribe") return gateway.grant(request);
      const position = { epoch: "e", offset: 0 };
      answer({ ok: true, channel: "room:1", position, recovered: false, publications: [], grant: "old" });
      return true;
    };
    await client.channel("room:1").subscribe();
    const refresh = await gateway.request("sync:refresh");
    gateway.welcome = {};
    refresh.answer({ ok: true, expiresAt: Date.now() + 3_600_000, grants: { "room:1": "new" } });
    await client.call("after.refresh");
    gateway.cut();
    const again = await gateway.request("sync:subscribe", 2);
    expect(again.data).toMatchObject({ channel: "room:1", grant: "new" });
  });

  test("a refused refresh is retried", async () => {
    gateway.welcome = { expiresAt: Date.now() + 2_500 };
    gateway.onRequest = ({ answer }) => {
      const error = { code: "broker_unavailable", message: "later", retryable: true };
      answer({ ok: false, error });
      return true;
    };
    const client = open();
    await gateway.request("sync:refresh", 2);
    expect(client.state.status).toBe("connected");
  });

  test.each(["sync:refresh", "sync:subscribe"])(
    "WAIT-3: a huge retryAfterMs of %s is a long wait, not a busy loop",
    async (event) => {
      gateway.welcome = { expiresAt: Date.now() + 1_500 };
      gateway.onRequest = (request) => {
        const error = { code: "rate_limited", message: "later", retryable: true, retryAfterMs: 1e12 };
        if (request.event !== event) return gateway.grant(request);
        request.answer({ ok: false, error });
        return true;
      };
      const client = open();
      client
        .channel("room:1")
        .subscribe()
        .catch(() => undefined);
      await gateway.request(event);
      for (let i = 0; i < 50; i++) await client.call("other");
      expect(gateway.of(event)).toHaveLength(1);
    },
  );
});

describe("client calls", () => {
  test("a call sends id and timeoutMs beside its data and resolves with the answer", async () => {
    const client = open();
    await reached(client, "connected");
    expect(await client.call("doc.echo", { a: 1 }, { id: "i1", timeoutMs: 9_000 })).toEqual({ a: 1 });
    expect(await client.call("doc.echo")).toBeNull();
    const [first, second] = gateway.of("doc.echo");
    expect(first).toMatchObject({ data: { a: 1 }, options: { id: "i1", timeoutMs: 9_000 } });
    expect(second).toMatchObject({ data: null, options: undefined });
  });

  test("a refused call rejects with every member of the gateway's error", async () => {
    const client = open();
    await reached(client, "connected");
    const error = { code: "rate_limited", message: "slow down", retryable: true, retryAfterMs: 70, status: 429 };
    gateway.onRequest = ({ answer }) => (answer({ ok: false, error }), true);
    await expect(client.call("doc.get", {})).rejects.toMatchObject({ name: "TidegateError", ...error });
  });

  test("a call without a connection fails at once and is never sent", async () => {
    const client = open();
    await expect(client.call("doc.edit", 1)).rejects.toMatchObject({ code: "not_connected", retryable: true });
    await reached(client, "connected");
    gateway.welcome = { sessionId: "again" };
    gateway.cut();
    await reached(client, "waiting");
    await expect(client.call("doc.edit", 2)).rejects.toMatchObject({ code: "not_connected" });
    await reached(client, "connected");
    await client.call("doc.edit", 3);
    expect(gateway.of("doc.edit").map(({ data }) => data)).toEqual([3]);
  });

  test("a call whose connection is lost fails as outcome unknown and is not repeated", async () => {
    gateway.onRequest = () => false;
    const client = open();
    await reached(client, "connected");
    const call = client.call("doc.edit", 1);
    await gateway.request("doc.edit");
    gateway.cut();
    await expect(call).rejects.toMatchObject({ code: "upstream_timeout", retryable: true });
    await reached(client, "connected");
    gateway.onRequest = (request) => gateway.grant(request);
    await client.call("doc.edit", 2);
    expect(gateway.of("doc.edit").map(({ data }) => data)).toEqual([1, 2]);
  });

  test("an unanswered call fails soon after its timeoutMs", async () => {
    gateway.onRequest = () => false;
    const client = open();
    await reached(client, "connected");
    await expect(client.call("doc.get", 1, { timeoutMs: 1 })).rejects.toMatchObject({ code: "upstream_timeout" });
    expect(client.state.status).toBe("connected");
  });

  test("reserved event names and oversized data are refused before they are sent", async () => {
    gateway.welcome = { maxPayloadBytes: 10 };
    const client = open();
    await reached(client, "connected");
    for (const event of ["sync:subscribe", "disconnecting", "connect", ""]) {
      await expect(client.call(event)).rejects.toMatchObject({ code: "invalid_request", retryable: false });
    }
    await expect(client.call("doc.edit", "12345678é")).rejects.toMatchObject({ code: "payload_too_large" });
    expect(await client.call("doc.edit", "12345678")).toBe("12345678");
  });
});

describe("client messages to the user", () => {
  test("a message reaches the listeners of its event until they are removed", async () => {
    const client = open();
    await reached(client, "connected");
    const heard: unknown[] = [];
    const stop = client.onMessage("note", (data, meta) => {
      heard.push([data, meta]);
      stop();
    });
    const last = new Promise((resolve) => client.onMessage("last", resolve));
    client.channel("board:1").on("note", () => heard.push("wrong"));
    gateway.socket.emit("note", { a: 1 }, { user: true });
    gateway.socket.emit("note", { a: 2 }, { user: true });
    gateway.socket.emit("sync:news", { a: 3 }, { user: true });
    gateway.socket.emit("last", 0, { user: true });
    await last;
    expect(heard).toEqual([[{ a: 1 }, { user: true }]]);
  });

  test("an event named by a number keeps its name", async () => {
    const client = open();
    await reached(client, "connected");
    const heard = new Promise((resolve) => client.onMessage("42", resolve));
    gateway.socket.emit(42 as never, "answer", { user: true });
    expect(await heard).toBe("answer");
  });
});
