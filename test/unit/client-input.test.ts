/** What the application passes to the SDK: refused at once, with a TidegateError, where the gateway cannot take it. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type CallOptions, type Client, connect, TidegateError } from "../../client/src/index.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let client: Client;
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  client = open();
  await reached(client, "connected");
});
afterEach(async () => {
  closeAll();
  await gateway.stop();
});

async function refusedCall(data: unknown, options?: object): Promise<void> {
  const error: unknown = await client.call("edit", data, options as CallOptions).then(
    () => expect.unreachable(),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(TidegateError);
  expect(error).toMatchObject({ code: "invalid_request", retryable: false });
}

describe("client input", () => {
  test("SDK-12: data that JSON cannot carry is refused, and other calls are answered", async () => {
    const circular: { self?: object } = {};
    circular.self = circular;
    const broken = {
      toJSON: () => {
        throw new Error("a bug of the application");
      },
    };
    const other = client.call("edit", "other");
    for (const data of [
      new Blob(["x"]),
      { deep: [{ file: new Blob(["x"]) }] },
      new Uint8Array(3),
      new ArrayBuffer(3),
      Buffer.from("x"),
      { count: 7n },
      circular,
      broken,
    ]) {
      await refusedCall(data);
    }
    expect(await other).toBe("other");
    expect(await client.call("edit", { at: new Date(0), skipped: undefined })).toEqual({ at: new Date(0).toJSON() });
    expect(gateway.sockets).toHaveLength(1);
  });

  test("SDK-12: a call's options are checked before it is sent", async () => {
    for (const timeoutMs of [Number.POSITIVE_INFINITY, Number.NaN, 0, -1, 1.5, 7n, "9"]) {
      await refusedCall(1, { timeoutMs });
    }
    for (const withinMs of [Number.NaN, 0, -1, "9"]) await refusedCall(1, { withinMs });
    for (const id of [7, 7n, null, new Blob([])]) await refusedCall(1, { id });
    expect(gateway.requests).toEqual([]);
    expect(await client.call("edit", 1, { offline: true, withinMs: Number.POSITIVE_INFINITY })).toBe(1);
  });

  test.each([
    "localhost:8080",
    "sync.example.com",
    "",
    "https://sync.example.com/base",
    "https://sync.example.com/?a=1",
    "https://sync.example.com/#a",
    "https://user:password@sync.example.com",
    "file:///sync",
  ])("SDK-12: connect refuses %j as url: the rest would be ignored", (url) => {
    const refused = expect.objectContaining({ code: "invalid_request" }) as Error;
    expect(() => connect({ url, token: "token" })).toThrow(refused);
  });
});
