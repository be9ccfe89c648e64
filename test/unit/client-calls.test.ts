/** Calls that wait for a connection, calls that are repeated, and conflicts. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Calls } from "../../client/src/calls/calls.ts";
import { type CallOptions, type Client, type ClientOptions, TidegateError } from "../../client/src/index.ts";
import type { Ack } from "../../shared/protocol/wire.ts";
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

async function connected(options: Partial<ClientOptions> = {}): Promise<Client> {
  const client = open(options);
  await reached(client, "connected");
  return client;
}

/** The gateway's next answers, `null` for none; after them it answers with the call's own data. */
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

test("SDK-10: a call on an enqueue route tells whether the event was stored, and its id", async () => {
  const client = await connected();
  for (const queued of [true, false]) {
    gateway.onRequest = ({ answer }) => {
      answer({ ok: true, queued, id: "e1" });
      return true;
    };
    expect(await client.call("edit", 1)).toEqual({ queued, id: "e1" });
  }
});

describe("client calls with repeat", () => {
  test("SDK-4: each retryable refusal is followed by another try with the same id and data", async () => {
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

  test("SDK-4: a call whose connection is lost before the answer is repeated on the next one", async () => {
    const client = await connected();
    answers(null);
    const call = client.call("edit", 1, safe);
    await gateway.request("edit");
    gateway.cut();
    expect(await call).toBe(1);
    expect(edits()).toEqual([1, 1]);
  });

  test("a final refusal fails the call at once, a timeout with the last error", async () => {
    const client = await connected();
    answers(refusal("card_locked", { retryable: false }));
    await expect(client.call("edit", 1, safe)).rejects.toMatchObject({ code: "card_locked" });
    gateway.onRequest = ({ answer }) => (answer(refusal("rate_limited", { retryAfterMs: 60_000 })), true);
    await expect(client.call("edit", 2, { ...safe, withinMs: 9_000 })).rejects.toMatchObject({ code: "rate_limited" });
    gateway.onRequest = () => false;
    await expect(client.call("edit", 3, { ...safe, withinMs: 50 })).rejects.toMatchObject({ code: "upstream_timeout" });
  });

  test("a call that waits to be repeated fails as outcome unknown when the client closes", async () => {
    const client = await connected();
    answers(null, refusal("upstream_timeout", { retryAfterMs: 50_000 }));
    const [lost, paused] = [client.call("edit", 1, safe), client.call("edit", 2, { id: "a2", repeat: true })];
    await gateway.request("edit", 2);
    await client.call("edit", 3);
    client.close();
    for (const call of [lost, paused]) await expect(call).rejects.toMatchObject({ code: "upstream_timeout" });
  });

  test("repeat needs an id, and does not imply offline", async () => {
    const client = open();
    await expect(client.call("edit", 1, { repeat: true } as unknown as CallOptions)).rejects.toMatchObject({
      code: "invalid_request",
    });
    await expect(client.call("edit", 1, safe)).rejects.toMatchObject({ code: "not_connected" });
  });

  test("past the queue's bound a call fails with its last error", async () => {
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
  test("SDK-5: calls wait and are sent in order after the connect", async () => {
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

  test("the offline option of a call overrides that of the client", async () => {
    const client = open();
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "not_connected" });
    expect(await client.call("edit", 2, { offline: true })).toBe(2);
    const other = open({ offline: {} });
    await expect(other.call("edit", 3, { offline: false })).rejects.toMatchObject({ code: "not_connected" });
  });

  test("SDK-5: a full queue, by number or bytes, refuses new calls and keeps the waiting ones", async () => {
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

  test("SDK-5: a call that the gateway's rate limit refuses is sent again, unlike a service's 429", async () => {
    const client = open({ offline: {} });
    answers(refusal("rate_limited", { retryAfterMs: 120 }));
    expect(await client.call("edit", 1)).toBe(1);
    expect(edits()).toEqual([1, 1]);
    answers(refusal("rate_limited", { retryAfterMs: 60_000 }));
    await expect(client.call("edit", 2, { withinMs: 9_000 })).rejects.toMatchObject({ code: "rate_limited" });
    answers(refusal("rate_limited", { status: 429 }));
    await expect(client.call("edit", 3)).rejects.toMatchObject({ code: "rate_limited", status: 429 });
    answers(refusal("rate_limited"));
    expect(await client.call("edit", 4, { offline: false })).toBe(4);
    expect(edits()).toEqual([1, 1, 2, 3, 4, 4]);
  });

  test("SDK-5: at most 100 waiting calls are sent at once", async () => {
    const client = open({ offline: { maxCalls: 1_000 } });
    const calls = Promise.allSettled(Array.from({ length: 1_000 }, async (_, data) => client.call("edit", data)));
    client.onState(({ status }) => {
      if (status === "connected") void client.channel("board:1").subscribe();
    });
    await gateway.request("sync:subscribe");
    const sentAtOnce = gateway.requests.findIndex(({ event }) => event === "sync:subscribe");
    // A few more where a busy machine takes a moment for them.
    expect(sentAtOnce).toBeGreaterThanOrEqual(100);
    expect(sentAtOnce).toBeLessThan(1_000);
    expect(edits().slice(0, sentAtOnce)).toEqual(Array.from({ length: sentAtOnce }, (_, data) => data));
    client.close();
    await calls;
  });

  test("a call that was sent is not sent again", async () => {
    const client = open({ offline: {} });
    answers(refusal("upstream_timeout"));
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "upstream_timeout" });
    expect(edits()).toEqual([1]);
  });

  test("a call fails with not_connected when no connection is made in time", async () => {
    gateway.refusals.push({ code: "at_capacity", message: "full", retryable: true, retryAfterMs: 60_000 });
    const client = open({ offline: {} });
    await expect(client.call("edit", 1, { withinMs: 30 })).rejects.toMatchObject({ code: "not_connected" });
  });

  test("SDK-5: a page that was frozen while a call waited does not send it when it wakes", async () => {
    const calls = new Calls({ random: Math.random, offline: {} });
    const sent: string[] = [];
    const connection = { request: (event: string) => void sent.push(event) };
    const late = calls.call("late", 1, { withinMs: 10_000 }).catch((error: unknown) => error);
    const running = performance.now.bind(performance);
    const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + 300_000);
    onTestFinished(() => clock.mockRestore());
    calls.call("new", 1, {}).catch(() => undefined);
    calls.connected(connection, 65_536);
    expect(sent).toEqual(["new"]);
    expect(await late).toMatchObject({ code: "not_connected", retryable: true });
    calls.close(new TidegateError({ code: "closed", message: "closed", retryable: false }));
  });

  test("a refusal that closes the client fails the waiting calls", async () => {
    gateway.refusals.push({ code: "forbidden", message: "not you", retryable: false });
    const client = open({ offline: {} });
    await expect(client.call("edit", 1)).rejects.toMatchObject({ code: "forbidden" });
  });

  test("the size limit of the gateway that receives the call applies", async () => {
    gateway.welcome = { maxPayloadBytes: 4 };
    const client = open({ offline: {} });
    const [small, large] = [client.call("edit", "ab"), client.call("edit", "abc")];
    await expect(large).rejects.toMatchObject({ code: "payload_too_large" });
    expect(await small).toBe("ab");
  });
});

describe("client calls that wait for their turn", () => {
  test("SDK-13: of a burst 100 are sent at once, as many wait as the queue holds, the rest fails", async () => {
    const client = await connected({ offline: { maxCalls: 30 } });
    const burst = Array.from({ length: 300 }, async (_, data) => client.call("edit", data, { offline: false }));
    const overtaking = client.channel("board:1").subscribe();
    const results = await Promise.allSettled([...burst, overtaking]);
    const codes = results.flatMap((result) =>
      result.status === "rejected" ? [(result.reason as TidegateError).code] : [],
    );
    expect(new Set(codes)).toEqual(new Set(["queue_full"]));
    // Fewer where a busy machine takes a moment for 300 calls: the pace allows one more in each 20 ms.
    expect(codes.length).toBeGreaterThan(0);
    expect(codes.length).toBeLessThanOrEqual(170);
    const sentAtOnce = gateway.requests.findIndex(({ event }) => event === "sync:subscribe");
    expect(sentAtOnce).toBeGreaterThanOrEqual(100);
    expect(edits().length - sentAtOnce).toBe(30);
    expect(edits()).toEqual(edits().toSorted((one, other) => Number(one) - Number(other)));
  });

  test("SDK-13: a call that the gateway refuses for its rate is kept, however many wait", async () => {
    const client = await connected({ offline: { maxCalls: 1 } });
    // The gateway's limit is stricter than the client assumes.
    gateway.onRequest = (request) => {
      if (gateway.of("edit").length > 150) return gateway.grant(request);
      request.answer(refusal("rate_limited", { retryAfterMs: 50 }));
      return true;
    };
    const calls = Array.from({ length: 100 }, async (_, data) => client.call("edit", data, { offline: false }));
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 100 }, (_, data) => data));
    expect(edits()).toHaveLength(250);
  });

  test("SDK-13: calls that the gateway refuses for their rate are sent again in their order", async () => {
    const client = await connected();
    let refused = 0;
    gateway.onRequest = (request) => {
      // Every third one reaches a service at once.
      if (request.event !== "edit" || ++refused > 60 || refused % 3 === 0) return gateway.grant(request);
      request.answer(refusal("rate_limited", { retryAfterMs: refused }));
      return true;
    };
    const calls = Array.from({ length: 50 }, async (_, data) => client.call("edit", data));
    await eventually(() => refused >= 50);
    // Made later than those that wait: sent after them.
    calls.push(client.call("edit", 50));
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 51 }, (_, data) => data));
    const again = edits().slice(50);
    expect(again.length).toBeGreaterThan(33);
    // Those that are refused a second time come again after the others.
    const inOrder = (data: readonly unknown[]): boolean =>
      data.every((one, at) => at === 0 || Number(data[at - 1]) < Number(one));
    const secondTime = again.slice(again.findIndex((data) => data === 50) + 1);
    expect([inOrder(again.slice(0, again.length - secondTime.length)), inOrder(secondTime)]).toEqual([true, true]);
  });

  test("SDK-13: a call takes no turn ahead of those that wait for theirs", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const client = await connected({ offline: {} });
    const calls = Array.from({ length: 110 }, async (_, data) => client.call("edit", data));
    await gateway.request("edit", 100);
    // The pace allows five more; ten wait.
    vi.advanceTimersByTime(100);
    calls.push(client.call("edit", 110));
    expect(edits()).toHaveLength(100);
    vi.advanceTimersByTime(1_000);
    await Promise.all(calls);
    expect(edits()).toEqual(Array.from({ length: 111 }, (_, data) => data));
  });

  test("SDK-13: a call that waits for its turn fails with not_connected when the connection is lost", async () => {
    const client = await connected({ offline: { maxCalls: 1_000 } });
    gateway.onRequest = () => false;
    const burst = Array.from({ length: 1_000 }, async (_, data) => client.call("edit", data, { offline: false }));
    const results = Promise.allSettled(burst);
    await gateway.request("edit", 100);
    gateway.cut();
    expect((await results)[0]).toMatchObject({ reason: { code: "upstream_timeout" } });
    expect((await results)[999]).toMatchObject({ reason: { code: "not_connected" } });
    expect(edits().length).toBeLessThan(1_000);
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

  test("SDK-6: the error has the position, the missed publications and the service's other members", async () => {
    const error = await refused("conflict", { position, publications, by: "grace" });
    expect(error.conflict).toEqual({ position, publications });
    expect(error.details).toEqual({ position, publications, by: "grace" });
  });

  test.each([
    ["another code", "moved_on", { position, publications }],
    ["no position", "conflict", { publications }],
    ["a malformed position", "conflict", { position: { epoch: 1, offset: 9 }, publications }],
    ["no publications", "conflict", { position }],
    ["a malformed publication", "conflict", { position, publications: [{ offset: -1, event: "moved", data: 1 }] }],
    ["a publication without data", "conflict", { position, publications: [{ offset: 8, event: "moved" }] }],
  ])("a malformed conflict appears in details only: %s", async (_, code, details) => {
    const error = await refused(code, details);
    expect(error.conflict).toBeUndefined();
    expect(error.details).toEqual(details);
  });
});
