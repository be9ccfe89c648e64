/** What the token function returns, and what the client does when that is no token or the gateway refuses it. */
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { type ClientState, connect } from "../../client/src/index.ts";
import { Credentials } from "../../client/src/connection/credentials.ts";
import { TokenRefresh } from "../../client/src/connection/token-refresh.ts";
import type { GatewayConnection } from "../../client/src/connection/connection.ts";
import { eventually } from "../support/eventually.ts";
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

test("SDK-11: whatever cannot be a token is not presented, and the function is called again", async () => {
  const returned = [undefined, null, "", 7, {}, "<h1>502 Bad Gateway</h1>", '{"error":"no session"}', "token-8\n"];
  const reasons: string[] = [];
  let asked = 0;
  const client = open({ token: () => returned[asked++] as string });
  client.onState((state: ClientState) => {
    if (state.status === "waiting") reasons.push(state.reason.code);
  });
  await reached(client, "connected");
  expect(gateway.handshakes.map(({ token }) => token)).toEqual(["token-8"]);
  expect(asked).toBe(returned.length);
  expect(reasons).toEqual(Array.from({ length: 7 }, () => "token_unavailable"));
});

test("SDK-11: a refused token is replaced once; a second refusal in a row closes the client", async () => {
  const refusal = { code: "unauthenticated", message: "unknown key", retryable: false } as const;
  let asked = 0;
  const token = (): string => `token-${++asked}`;
  gateway.refusals.push(refusal);
  await reached(open({ token }), "connected");
  expect(gateway.handshakes.map((auth) => auth["token"])).toEqual(["token-1", "token-2"]);
  gateway.refusals.push(refusal, refusal);
  const { reason } = await reached(open({ token }), "closed");
  expect(reason).toMatchObject({ code: "unauthenticated", message: "unknown key", retryable: false });
  expect(asked).toBe(4);
  gateway.refusals.push(refusal);
  await reached(open({ token: "fixed" }), "closed");
  expect(gateway.handshakes).toHaveLength(5);
});

test("SDK-21: the client presents a newer token each time the gateway asks", async () => {
  let asked = 0;
  gateway.welcome = { resumeToken: "resume" };
  const client = open({ token: () => `token-${++asked}` });
  await reached(client, "connected");
  gateway.onRequest = (request) => {
    if (request.event !== "sync:refresh") return gateway.grant(request);
    request.answer({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken: "resume" });
    return true;
  };
  gateway.socket.emit("sync:refresh", {});
  expect((await gateway.request("sync:refresh")).data).toEqual({ token: "token-2" });
  await client.call("after.the.refresh");
  gateway.socket.emit("sync:refresh", {});
  expect((await gateway.request("sync:refresh", 2)).data).toEqual({ token: "token-3" });
  await client.call("after.the.refresh");
  expect(asked).toBe(3);
});

test("SDK-21: a request during a call of the token function starts no second one", async () => {
  let asked = 0;
  let deliver = (_token: string): void => undefined;
  gateway.welcome = { resumeToken: "resume" };
  const client = open({
    token: () => (++asked === 1 ? "token-1" : new Promise((resolve) => (deliver = resolve))),
  });
  await reached(client, "connected");
  gateway.onRequest = (request) => {
    if (request.event !== "sync:refresh") return gateway.grant(request);
    request.answer({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken: "resume" });
    return true;
  };
  gateway.socket.emit("sync:refresh", {});
  await eventually(() => asked === 2);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    gateway.socket.emit("sync:refresh", {});
    await client.call("after.the.request");
    vi.advanceTimersByTime(2_000);
  } finally {
    vi.useRealTimers();
  }
  expect(asked).toBe(2);
  deliver("token-2");
  expect((await gateway.request("sync:refresh")).data).toEqual({ token: "token-2" });
  await client.call("after.the.refresh");
  expect([asked, gateway.of("sync:refresh").length]).toEqual([2, 1]);
});

test("SDK-21: requests within 2 s get one token, from the next connection where one ended", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  try {
    const sent: unknown[] = [];
    const request = (_event: string, [data]: unknown[]): unknown => sent.push(data);
    const connection = { request } as unknown as GatewayConnection;
    const credentials = new Credentials(() => "token");
    const refresh = (): TokenRefresh => new TokenRefresh(credentials, () => 0.5, vi.fn<() => void>());
    const [lost, next] = [refresh(), refresh()];
    const expiresAt = Date.now() + 3_600_000;
    lost.start(connection, expiresAt);
    lost.ask();
    lost.stop();
    next.start(connection, expiresAt);
    next.ask();
    await vi.advanceTimersByTimeAsync(2_000);
    next.stop();
    expect(sent).toEqual([{ token: "token" }]);
  } finally {
    vi.useRealTimers();
  }
});

test("SDK-21: a refresh that the gateway asked for is made again where its connection is lost first", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  onTestFinished(() => void vi.useRealTimers());
  let sent = 0;
  const connection = { request: () => sent++ } as unknown as GatewayConnection;
  const credentials = new Credentials(() => "token");
  const refresh = (): TokenRefresh => new TokenRefresh(credentials, () => 0.5, vi.fn<() => void>());
  const [lost, next] = [refresh(), refresh()];
  lost.start(connection, Date.now() + 3_600_000);
  lost.ask();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(sent).toBe(1);
  lost.stop();
  next.start(connection, Date.now() + 3_600_000);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(sent).toBe(2);
  next.stop();
});

test.each(["call of the token function", "refresh"])(
  "SDK-21: the gateway's request survives a failed %s",
  async (failing) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    try {
      const calls: { resolve: (token: string) => void; reject: (error: Error) => void }[] = [];
      const sent: { data: unknown; ack: (ack: object) => void }[] = [];
      const request = (_event: string, [data]: unknown[], ack: (ack: object) => void): unknown =>
        sent.push({ data, ack });
      const credentials = new Credentials(
        async () => new Promise<string>((resolve, reject) => calls.push({ resolve, reject })),
      );
      const refresh = new TokenRefresh(credentials, () => 0.5, vi.fn<() => void>());
      refresh.start({ request } as unknown as GatewayConnection, Date.now() + 3_600_000);
      // The regular refresh calls the function.
      await vi.advanceTimersByTimeAsync(0.8 * 3_600_000);
      expect(calls).toHaveLength(1);
      refresh.ask();
      if (failing !== "refresh") calls[0]?.reject(new Error("down"));
      else {
        calls[0]?.resolve("token-1");
        await vi.advanceTimersByTimeAsync(0);
        sent.shift()?.ack({ ok: false, error: {} });
      }
      await vi.advanceTimersByTimeAsync(499);
      expect(calls).toHaveLength(1);
      await vi.advanceTimersByTimeAsync(1);
      calls[1]?.resolve("token-2");
      await vi.advanceTimersByTimeAsync(0);
      expect(sent.map(({ data }) => data)).toEqual([{ token: "token-2" }]);
      refresh.stop();
    } finally {
      vi.useRealTimers();
    }
  },
);

test.each(["", undefined, null, 7])("SDK-11: connect refuses %j as a fixed token", (token) => {
  const refused = expect.objectContaining({ code: "invalid_request" }) as Error;
  expect(() => connect({ url: gateway.url, token: token as unknown as string })).toThrow(refused);
});

test("SDK-1: close() during the token function leaves no timer", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const client = open({ token: () => new Promise<string>(() => undefined) });
    client.close();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
