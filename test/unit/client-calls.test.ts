/** Calls that wait for a connection, calls that are repeated, and what a conflict brings. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CallOptions, Client, ClientOptions, TidegateError } from "../../client/src/index.ts";
import type { Ack } from "../../shared/protocol/wire.ts";
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

async function connected(options: Partial<ClientOptions> = {}): Promise<Client> {
  const client = open(options);
  await reached(client, "connected");
  return client;
}

/** The next answers of the gateway, then its ordinary ones; `null`: none at all. */
function answers(...next: (Ack<{ data: unknown }> | null)[]): void {
  gateway.onRequest = (request) => {
    const ack = next.shift();
    if (ack === undefined) return gateway.grant(request);
    if (ack === null) return false;
    request.answer(ack);
    return true;
  };
}

const refusal = (code: string, more: object = {}): Ack<{ data: unknown }> => ({
  ok: false,
  error: { code, message: code, retryable: true, ...more },
});
const edits = (): unknown[] => gateway.of("edit").map(({ data }) => data);
const safe = { id: "a1", repeat: true } as const;

describe("client calls that are safe to repeat", () => {
  test("SDK-4: are repeated with the same id and data after each retryable refusal", async () => {
    const client = await connected();
    answers(
      refusal("upstream_unavailable"),
      refusal("rate_limited", { retryAfterMs: 120 }),
      refusal("upstream_timeout"),
    );
    const data = { title: "first" };
    const call = client.call("edit", data, { ...safe, timeoutMs: 5_000 });
    data.title = "changed meanwhile";
    expect(await call).toEqual({ title: "first" });
    expect(edits()).toEqual([1, 2, 3, 4].map(() => ({ title: "first" })));
    expect(gateway.of("edit").map(({ options }) => options)).toEqual(
      [1, 2, 3, 4].map(() => ({ id: "a1", timeoutMs: 5_000 })),
    );
  });

  test("SDK-4: are repeated once connected again where the connection was lost before the answer", async () => {
    const client = await connected();
    answers(null);
    const call = client.call("edit", 1, safe);
    await gateway.request("edit");
    gateway.cut();
    expect(await call).toBe(1);
    expect(edits()).toEqual([1, 1]);
  });

  test("fail at once with what is final, and with the last word when their time is up", async () => {
    const client = await connected();
    answers(refusal("card_locked", { retryable: false }));
    await expect(client.call("edit", 1, safe)).rejects.toMatchObject({ code: "card_locked" });
    gateway.onRequest = ({ answer }) => (answer(refusal("rate_limited", { retryAfterMs: 60 })), true);
    await expect(client.call("edit", 2, { ...safe, withinMs: 300 })).rejects.toMatchObject({ code: "rate_limited" });
    gateway.onRequest = () => false;
    await expect(client.call("edit", 3, { ...safe, withinMs: 50 })).rejects.toMatchObject({ code: "upstream_timeout" });
  });

  test("fail as outcome unknown when the client closes before their repeat", async () => {
    const client = await connected();
    answers(null, refusal("upstream_timeout", { retryAfterMs: 50_000 }));
    const [lost, paused] = [client.call("edit", 1, safe), client.call("edit", 2, { id: "a2", repeat: true })];
    await gateway.request("edit", 2);
    await client.call("edit", 3);
    client.close();
    for (const call of [lost, paused]) await expect(call).rejects.toMatchObject({ code: "upstream_timeout" });
  });

  test("need an id, and do not wait for a first connection unless they may", async () => {
    const client = open();
    await expect(client.call("edit", 1, { repeat: true } as unknown as CallOptions)).rejects.toMatchObject({
      code: "invalid_request",
    });
    await expect(client.call("edit", 1, safe)).rejects.toMatchObject({ code: "not_connected" });
  });

  test("that wait are bounded: past the bound they fail with their last word", async () => {
    const client = await connected({ offline: { maxCalls: 2 } });
    gateway.onRequest = () => false;
    const calls = [1, 2, 3].map((data) => client.call("edit", data, { id: `a${data}`, repeat: true }));
    await gateway.request("edit", 3);
    gateway.onRequest = (request) => gateway.grant(request);
    gateway.cut();
    const [first, second, third] = await Promise.allSettled(calls);
    expect([first, second]).toMatchObject([{ value: 1 }, { value: 2 }]);
    expect(third).toMatchObject({ reason: { code: "upstream_timeout" } });
  });
});

describe("client calls made while not connected", () => {
  test("SDK-5: wait, and are sent in order once it is", async () => {
    const client = open({ offline: {} });
    const calls = [1, 2, 3].map((data) => client.call("edit", data));
    expect(await Promise.all(calls)).toEqual([1, 2, 3]);
    expect(edits()).toEqual([1, 2, 3]);
    gateway.cut();
    await reached(client, "waiting");
    const later = [4, 5].map((data) => client.call("edit", data, data === 5 ? { id: "a5" } : {}));
    expect(await Promise.all(later)).toEqual([4, 5]);
    expect(edits()).toEqual([1, 2, 3, 4, 5]);
  });

  test("wait one by one where only they ask for it, and fail at once where they do not want it", async () => {
    const client = open();
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "not_connected" });
    expect(await client.call("edit", 2, { offline: true })).toBe(2);
    const other = open({ offline: {} });
    await expect(other.call("edit", 3, { offline: false })).rejects.toMatchObject({ code: "not_connected" });
  });

  test("SDK-5: are refused when the queue is full by number or bytes; those that wait are kept", async () => {
    const client = open({ offline: { maxCalls: 2, maxBytes: 20 } });
    const kept = [client.call("edit", 1), client.call("edit", 2)];
    await expect(client.call("edit", 3)).rejects.toMatchObject({ code: "queue_full", retryable: true });
    expect(await Promise.all(kept)).toEqual([1, 2]);
    gateway.cut();
    await reached(client, "waiting");
    await expect(client.call("edit", "x".repeat(19))).rejects.toMatchObject({ code: "queue_full" });
    expect(await client.call("edit", "x".repeat(18))).toBe("x".repeat(18));
    expect(edits()).toEqual([1, 2, "x".repeat(18)]);
  });

  test("SDK-5: that the gateway refuses as too many at once are sent again in their time; so is no call that a service refused", async () => {
    const client = open({ offline: {} });
    answers(refusal("rate_limited", { retryAfterMs: 120 }));
    expect(await client.call("edit", 1)).toBe(1);
    expect(edits()).toEqual([1, 1]);
    answers(refusal("rate_limited", { retryAfterMs: 60_000 }));
    await expect(client.call("edit", 2, { withinMs: 1_000 })).rejects.toMatchObject({ code: "rate_limited" });
    answers(refusal("rate_limited", { status: 429 }));
    await expect(client.call("edit", 3)).rejects.toMatchObject({ code: "rate_limited", status: 429 });
    answers(refusal("rate_limited"));
    await expect(client.call("edit", 4, { offline: false })).rejects.toMatchObject({ code: "rate_limited" });
    expect(edits()).toEqual([1, 1, 2, 3, 4]);
  });

  test("SDK-5: are sent no more at once than a gateway takes", async () => {
    const client = open({ offline: { maxCalls: 1_000 } });
    const calls = Array.from({ length: 120 }, async (_, data) => client.call("edit", data));
    await Promise.all(calls.slice(0, 100));
    // What is asked for afterwards arrives before the rest.
    await client.channel("board:1").subscribe();
    expect(edits()).toHaveLength(100);
    await Promise.all(calls);
    expect(edits()).toEqual(Array.from({ length: 120 }, (_, data) => data));
  });

  test("are not sent a second time once they were sent", async () => {
    const client = open({ offline: {} });
    answers(refusal("upstream_timeout"));
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "upstream_timeout" });
    expect(edits()).toEqual([1]);
  });

  test("fail with not_connected when the connection does not come back in time", async () => {
    gateway.refusals.push({ code: "at_capacity", message: "full", retryable: true, retryAfterMs: 60_000 });
    const client = open({ offline: {} });
    await expect(client.call("edit", 1, { withinMs: 30 })).rejects.toMatchObject({ code: "not_connected" });
  });

  test("fail with the reason for which the client closes", async () => {
    gateway.refusals.push({ code: "forbidden", message: "not you", retryable: false });
    const client = open({ offline: {} });
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "forbidden" });
  });

  test("are measured by the gateway's limit when they are sent", async () => {
    gateway.welcome = { maxPayloadBytes: 4 };
    const client = open({ offline: {} });
    const [small, large] = [client.call("edit", "ab"), client.call("edit", "abc")];
    await expect(large).rejects.toMatchObject({ code: "payload_too_large" });
    expect(await small).toBe("ab");
  });
});

describe("client conflicts", () => {
  const position = { epoch: "e1", offset: 9 };
  const publications = [
    { offset: 8, event: "moved", data: { id: 1 } },
    { offset: 9, prev: 8, event: "moved", data: null },
  ];

  async function refused(code: string, details: Record<string, unknown>): Promise<TidegateError> {
    const client = await connected();
    answers(refusal(code, { retryable: false, details }));
    return client.call("edit").then(
      () => expect.unreachable(),
      (error: unknown) => error as TidegateError,
    );
  }

  test("SDK-6: bring where the channel stands and what was missed, and whatever else the service said", async () => {
    const error = await refused("conflict", { position, publications, by: "grace" });
    expect(error.conflict).toEqual({ position, publications });
    expect(error.details).toEqual({ position, publications, by: "grace" });
  });

  test.each([
    ["another code", "moved_on", { position, publications }],
    ["no position", "conflict", { publications }],
    ["a position that is none", "conflict", { position: { epoch: 1, offset: 9 }, publications }],
    ["no publications", "conflict", { position }],
    ["a publication that is none", "conflict", { position, publications: [{ offset: -1, event: "moved", data: 1 }] }],
    ["a publication without data", "conflict", { position, publications: [{ offset: 8, event: "moved" }] }],
  ])("of another form are details alone: %s", async (_, code, details) => {
    const error = await refused(code, details);
    expect(error.conflict).toBeUndefined();
    expect(error.details).toEqual(details);
  });
});
