/** What becomes of text on its way: kept as it was sent, or refused, never altered. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { readGatewayConfig } from "../../gateway/config.ts";
import { type ApiAnswer, type Fleet, jwtSecret, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { RawClient } from "../support/raw-client.ts";
import { clientFrame, openRawWebsocket, textFrame } from "../support/raw-websocket.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

let service: HttpService;
let fleet: Fleet;

beforeAll(async () => {
  service = await startService();
  service.answer = (_request, response) => answerJson(response, {});
  fleet = await startFleet({
    environment: { GATEWAY_TRANSPORTS: "websocket,polling" },
    rules: {
      services: { app: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "card.*", service: "app", path: "/{event}", mode: "call" }],
    },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

/** JSON as it is written, whatever it spells. */
async function post(path: string, text: string): Promise<ApiAnswer> {
  return fleet.api("POST", path, undefined, { text });
}

const half = "\\ud800";

test.each([
  ["a publish's id", "/v1/publish", `{"channel":"board:1","event":"moved","data":1,"id":"${half}"}`],
  ["an ephemeral publish's id", "/v1/publish", `{"channel":"b:1","event":"e","data":1,"history":false,"id":"${half}"}`],
  ["an epoch", "/v1/publish", `{"channel":"b:1","event":"e","data":1,"expect":{"epoch":"${half}","offset":0}}`],
  ["a session's id", "/v1/users/ada/disconnect", `{"sessionId":"${half}"}`],
  ["a reason", "/v1/users/ada/disconnect", `{"reason":"${half}"}`],
  ["a user's name", "/v1/users/%ED%A0%80/send", `{"event":"note","data":1}`],
  ["a tenant's name", "/v1/users/ada/send?tenant=%ED%A0%80", `{"event":"note","data":1}`],
])("TEXT-1: half a surrogate pair is refused in %s", async (_what, path, text) => {
  const answer = await post(path, text);
  expect(answer.status).toBe(400);
  expect(answer.body).toMatchObject({ code: "invalid_request" });
});

test("TEXT-1: half a surrogate pair is refused in an item of a batch, which alone fails", async () => {
  const item = (id: string): string => `{"channel":"board:batch","event":"moved","data":1,"id":"${id}"}`;
  const answer = await post("/v1/publish/batch", `[${[half, "\\ud83d\\ude80", "\\udc00"].map(item).join(",")}]`);
  const refused = {
    error: { code: "invalid_request", message: expect.stringContaining("id: must be well-formed") as string },
  };
  expect(JSON.parse(answer.text)).toMatchObject([refused, { offset: 1 }, refused]);
});

test("TEXT-1: half a surrogate pair is refused in the id of a call and in users of a rollout", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  expect(await client.request("card.move", {}, { id: "\ud800" })).toMatchObject({ error: { code: "invalid_request" } });
  expect(service.requests).toHaveLength(0);
  const groups = `[{"name":"a","percent":1,"users":["${half}"]}]`;
  const put = await fleet.api("PUT", "/v1/rollouts", undefined, {
    text: `{"groups":${groups},"fallback":{"name":"b"}}`,
  });
  expect(put.status).toBe(400);
});

test("TEXT-1: a node is not named by what is no text", () => {
  const name = (GATEWAY_NODE: string) => () =>
    readGatewayConfig({ PRIVATE_API_TOKEN: "t", AUTH_JWT_SECRET: jwtSecret, GATEWAY_NODE }, { embedded: true });
  // Bytes of the environment that are not UTF-8 arrive as U+FFFD.
  for (const bad of ["node\ufffd", "\ud800", "a\nb", "a".repeat(129)]) expect(name(bad)).toThrow("GATEWAY_NODE");
  expect(name("Knoten ä 🚀")().GATEWAY_NODE).toBe("Knoten ä 🚀");
});

/** Data of a call, as a client spells it → the body that the service gets, and the ack of a service that answers with it. */
async function passed(data: string): Promise<{ body: string; ack: string }> {
  const client = await RawClient.connect(new URL(fleet.urls[0] ?? ""), await userToken());
  service.answer = ({ body }, response) => response.writeHead(200, { "content-type": "application/json" }).end(body);
  const chunks: Buffer[] = [];
  client.socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  const acked = client.acked(7);
  client.socket.write(textFrame(`427["card.move",${data}]`));
  await acked;
  client.socket.destroy();
  const [, ack = ""] = /437\[(.*)\]/s.exec(Buffer.concat(chunks).toString()) ?? [];
  return { body: service.requests.at(-1)?.body ?? "", ack };
}

test.each([
  ["integers beyond 2^53", "9007199254740993", "9007199254740993"],
  ["numbers that no double holds", "[1e999,-0,1.50,0.1234567890123456789]", undefined],
  ["members that are there twice", '{"a":1,"a":2,"__proto__":{"b":3},"constructor":4}', undefined],
  ["half a surrogate pair, as an escape", '["\\ud800","\\udc00\\ud800","\\ud83d\\ude80"]', undefined],
  ["escapes that need not be", '"\\u00e9\\/\\u0041"', undefined],
  ["128 levels", "[".repeat(128) + "]".repeat(128), undefined],
  ["space between values", '\n{ "a" :\t[ 1 , "b  c" ] }\r\n', '{"a":[1,"b  c"]}'],
])("TEXT-3: of a call's data %s reach the service as they were written", async (_what, data, expected = data) => {
  expect(await passed(data)).toEqual({ body: expected, ack: `{"ok":true,"data":${expected}}` });
});

test("TEXT-4: data over the limit by its escapes alone has them as characters", async () => {
  const spelled = (length: number): string => JSON.stringify("ä".repeat(length)).replaceAll("ä", "\\u00e4");
  const most = 32 * 1024 - 1;
  expect((await passed(spelled(most))).body).toBe(JSON.stringify("ä".repeat(most)));
  expect((await passed(spelled(most + 1))).ack).toContain("payload_too_large");
});

test("TEXT-2: a frame that is not UTF-8 closes its websocket with 1007", async () => {
  const socket = await openRawWebsocket(new URL(fleet.urls[0] ?? ""));
  socket.resume();
  const closing = new Promise<Buffer>((resolve) => socket.on("data", (chunk: Buffer) => resolve(chunk)));
  socket.write(clientFrame("text", Buffer.from([0x34, 0x32, 0xff])));
  const frame = await closing;
  expect([frame[0], frame.readUInt16BE(2)]).toEqual([0x88, 1007]);
  socket.destroy();
});

describe("polling", () => {
  let url: URL;
  beforeAll(() => {
    url = new URL("/socket.io/?EIO=4&transport=polling", fleet.urls[0]);
  });

  async function open(): Promise<URL> {
    const { sid } = JSON.parse((await (await fetch(url)).text()).slice(1)) as { sid: string };
    const own = new URL(url);
    own.searchParams.set("sid", sid);
    return own;
  }

  test.each([
    ["a byte that begins nothing", [0xff]],
    ["a character that is cut off", [0xf0, 0x9f, 0x98]],
    ["half a surrogate pair", [0xed, 0xa0, 0x80]],
  ])("TEXT-2: a request with %s is refused, and its connection closed", async (_what, bytes) => {
    const own = await open();
    const body = Buffer.concat([Buffer.from('40{"token":"'), Buffer.from(bytes), Buffer.from('"}')]);
    const answer = await fetch(own, { method: "POST", body });
    expect([answer.status, await answer.text()]).toEqual([400, "the body is not UTF-8"]);
    expect((await fetch(own)).status).toBe(400);
  });

  test("TEXT-2: characters that arrive in two parts are valid", async () => {
    const own = await open();
    const body = Buffer.from('40{"token":"🚀"}');
    const parts = [body.subarray(0, 14), body.subarray(14)];
    const stream = new ReadableStream({
      pull: (controller) => {
        const part = parts.shift();
        if (part) controller.enqueue(part);
        else controller.close();
      },
    });
    const answer = await fetch(own, { method: "POST", body: stream, duplex: "half" });
    expect([answer.status, await answer.text()]).toEqual([200, "ok"]);
    expect(await (await fetch(own)).text()).toContain("unauthenticated");
  });
});
