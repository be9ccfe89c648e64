/** Errors repeat a bounded part of a peer's text, however long it is. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { closeClients, connectClient, refusedConnect, type StockClient, userToken } from "../support/stock-client.ts";

/** Longer than any message of the programs, shorter than any text sent. */
const maxAnswerLength = 4_000;
// As data it closes no connection (BAD-3).
const long = `one\ntwo ${"x".repeat(100 * 1024)}`;

let fleet: Fleet;
let url: string;
let client: StockClient;

beforeAll(async () => {
  fleet = await startFleet({ rules: {} });
  [url = ""] = fleet.urls;
});
afterEach(closeClients);
afterAll(() => fleet.stop());

test.for<[string, string, unknown[], string]>([
  ["an event's name", long, [1], "invalid_request"],
  ["the name of a request", `sync:${long}`, [{}], "unknown_event"],
  ["an unknown member", "sync:subscribe", [{ channel: "board:1", [long]: 1 }], "invalid_request"],
  [
    "many unknown members",
    "sync:subscribe",
    [
      {
        channel: "board:1",
        ...Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`${i} ${"x".repeat(90)}`, 1])),
      },
    ],
    "invalid_request",
  ],
  ["an unknown option of a call", "card.move", [1, { [long]: 1 }], "invalid_request"],
])("ECHO-1: an ack repeats little of %s", async ([, event, args, code]) => {
  client = await connectClient(url);
  const ack = await client.request(event, ...args);
  expect(ack.error?.code).toBe(code);
  expect(JSON.stringify(ack).length).toBeLessThan(maxAnswerLength);
  expect(ack.error?.message).not.toContain("\n");
});

test("ECHO-1: a refusal repeats little of a token", async () => {
  const channels = Array.from({ length: 1_000 }, () => 1);
  const refusal = await refusedConnect(url, { token: await userToken({ channels }) });
  expect(refusal.code).toBe("unauthenticated");
  expect(JSON.stringify(refusal).length).toBeLessThan(maxAnswerLength);
});

test.for<[string, string, string, unknown]>([
  ["an event's name", "POST", "/v1/publish", { channel: "board:1", event: long, data: 1 }],
  ["an unknown member", "POST", "/v1/publish", { channel: "board:1", event: "moved", data: 1, [long]: 1 }],
  ["the event of a message to a user", "POST", "/v1/users/ada/send", { event: long, data: 1 }],
  ["an unknown member of a checked body", "POST", "/v1/users/ada/disconnect", { [long]: 1 }],
  ["an unknown parameter", "GET", `/v1/users/ada/sessions?${"x".repeat(10_000)}=1`, undefined],
  ["a path", "GET", `/v1/${"x".repeat(10_000)}`, undefined],
  ["a path that cannot be decoded", "GET", `/v1/channels/%zz${"x".repeat(10_000)}/history`, undefined],
])("ECHO-1: a problem repeats little of %s", async ([, method, path, body]) => {
  const answer = await fleet.api(method, path, body);
  expect(answer.body["code"]).toMatch(/^(invalid_request|not_found|payload_too_large)$/);
  expect(answer.text.length).toBeLessThan(maxAnswerLength);
});
