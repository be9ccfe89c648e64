/** Text is forwarded as it was sent or refused, never altered. */
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { gatewaySettings } from "../../gateway/config.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { RawClient } from "../support/raw-client.ts";
import { clientFrame, openRawWebsocket, ServerFrames, textFrame } from "../support/raw-websocket.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let service: HttpService;
let fleet: Fleet;

beforeAll(async () => {
  service = await startService();
  service.answer = (_request, response) => answerJson(response, {});
  fleet = await startFleet({
    environment: { GATEWAY_TRANSPORTS: "websocket,polling" },
    rules: {
      namespaces: { room: { presence: true, joinLeave: true } },
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

/** JSON in unusual spellings. */
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
  ["a released key", "/v1/queues/release", `{"key":"${half}"}`],
  ["the tenant of a released key", "/v1/queues/release", `{"key":"k","tenant":"${half}"}`],
  ["the service of a released key", "/v1/queues/release", `{"key":"k","service":"${half}"}`],
  ["the service of dead letters", "/v1/dead-letters/retry", `{"service":"${half}"}`],
  ["the key of dead letters", "/v1/dead-letters/retry", `{"key":"${half}"}`],
])("TEXT-1: half a surrogate pair is refused in %s", async (_what, path, text) => {
  const answer = await post(path, text);
  expect(answer.status).toBe(400);
  expect(answer.body).toMatchObject({ code: "invalid_request" });
});

test("TEXT-1: an unpaired surrogate fails only its item of a batch", async () => {
  const item = (id: string): string => `{"channel":"board:batch","event":"moved","data":1,"id":"${id}"}`;
  const answer = await post("/v1/publish/batch", `[${[half, "\\ud83d\\ude80", "\\udc00"].map(item).join(",")}]`);
  const refused = {
    error: { code: "invalid_request", message: expect.stringContaining("id: must be well-formed") as string },
  };
  expect(JSON.parse(answer.text)).toMatchObject([refused, { offset: 1 }, refused]);
});

test.each(["%ED%A0%80", "%FF", "%"])(
  "TEXT-1: an id in a query that is not encoded UTF-8 is refused: %s",
  async (client) => {
    const answer = await fetch(`${fleet.urls[0]}/v1/bootstrap?client=${client}`);
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: "invalid_request" }]);
  },
);

test("TEXT-1: an unpaired surrogate is refused in the id of a call and in users of a rollout", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  expect(await client.request("card.move", {}, { id: "\ud800" })).toMatchObject({ error: { code: "invalid_request" } });
  expect(service.requests).toHaveLength(0);
  const groups = `[{"name":"a","percent":1,"users":["${half}"]}]`;
  const put = await fleet.api("PUT", "/v1/rollouts", undefined, {
    text: `{"groups":${groups},"fallback":{"name":"b"}}`,
  });
  expect(put.status).toBe(400);
});

test("TEXT-1: a node name must be well-formed text", () => {
  const name = (GATEWAY_NODE: string) => () =>
    gatewaySettings.read({ PRIVATE_API_TOKEN: "t", AUTH_JWT_SECRET: jwtSecret, GATEWAY_NODE }, { embedded: true });
  // Bytes of the environment that are not UTF-8 arrive as U+FFFD.
  for (const bad of ["node\ufffd", "\ud800", "a\nb", "a".repeat(129)]) expect(name(bad)).toThrow("GATEWAY_NODE");
  expect(name("Knoten ä 🚀")().GATEWAY_NODE).toBe("Knoten ä 🚀");
});

/** JSON that JavaScript values cannot represent, and the forwarded text if it differs. */
const spellings: readonly (readonly [what: string, data: string, expected: string | undefined])[] = [
  ["integers beyond 2^53", "9007199254740993", "9007199254740993"],
  ["numbers that no double holds", "[1e999,-0,1.50,0.1234567890123456789]", undefined],
  ["members that are there twice", '{"a":1,"a":2,"__proto__":{"b":3},"constructor":4}', undefined],
  ["half a surrogate pair, as an escape", '["\\ud800","\\udc00\\ud800","\\ud83d\\ude80"]', undefined],
  ["escapes that need not be", '"\\u00e9\\/\\u0041"', undefined],
  ["128 levels", "[".repeat(128) + "]".repeat(128), undefined],
  ["space between values", '\n{ "a" :\t[ 1 , "b  c" ] }\r\n', '{"a":[1,"b  c"]}'],
];

/** Sends data as spelled. @returns the body that the service gets, and the ack if the service echoes it. */
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

test.each(spellings)(
  "TEXT-3: %s in a call's data reach the service as written",
  async (_what, data, expected = data) => {
    expect(await passed(data)).toEqual({ body: expected, ack: `{"ok":true,"data":${expected}}` });
  },
);

test("TEXT-4: data that exceeds the limit only by its escapes is forwarded unescaped", async () => {
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

  test("TEXT-2: a character split over two parts is valid", async () => {
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

/** All messages to a client from its subscription on, as text. */
class Frames {
  readonly texts: string[] = [];
  readonly client: RawClient;
  readonly #frames = new ServerFrames();

  private constructor(client: RawClient) {
    this.client = client;
    client.socket.on("data", (chunk: Buffer) => this.texts.push(...this.#frames.push(chunk)));
  }

  static async of(token?: string): Promise<Frames> {
    return new Frames(await RawClient.connect(new URL(fleet.urls[0] ?? ""), token ?? (await userToken())));
  }

  async next(part: string): Promise<string> {
    await eventually(() => this.texts.some((text) => text.includes(part)));
    return this.texts.find((text) => text.includes(part)) ?? "";
  }
}

describe("published", () => {
  let channels = 0;

  test.each(spellings)(
    "TEXT-3: %s reach subscribers and readers of history as written",
    async (_what, data, expected = data) => {
      const channel = `board:written-${++channels}`;
      const item = (event: string, more = ""): string =>
        `{"channel":"${channel}","event":"${event}",${more}"data":${data}}`;
      const frames = await Frames.of();
      const { position } = await frames.client.subscribe(channel);
      const expect0 = `"expect":${JSON.stringify({ ...position, offset: 0 })},`;

      for (const [path, text] of [
        ["/v1/publish", item("one")],
        ["/v1/publish/batch", `[ ${item("two")} , ${item("three")} ]`],
        ["/v1/publish", item("fleeting", '"history":false,')],
        ["/v1/users/ada/send", `{"event":"note","data":${data}}`],
      ] as const) {
        expect((await post(path, text)).status).toBeLessThan(300);
      }
      const lines = item("four").replaceAll(/[\r\n]/g, "");
      const ndjson = { "content-type": "application/x-ndjson" };
      expect(
        (await fleet.api("POST", "/v1/publish/batch", undefined, { text: `${lines}\n`, headers: ndjson })).status,
      ).toBe(200);

      for (const event of ["one", "two", "three", "fleeting", "note", "four"]) {
        expect(await frames.next(`["${event}",`)).toContain(`["${event}",${expected},{`);
      }
      const publications = ["one", "two", "three", "four"].map((event, at) => {
        return `{"offset":${at + 1},"event":"${event}","data":${expected}}`;
      });
      const { text: history } = await fleet.api("GET", `/v1/channels/${channel}/history`);
      expect(history).toContain(`"publications":[${publications.join(",")}]`);
      const { text: conflict } = await post("/v1/publish", item("late", expect0));
      expect(conflict).toContain(`"publications":[${publications.join(",")}]`);
      await frames.client.request("sync:history", { channel });
      expect(await frames.next(',"publications":[{"offset":1')).toContain(publications.join(","));
      const returning = await Frames.of();
      await returning.client.subscribe(channel, position);
      expect(await returning.next('"recovered":true')).toContain(publications.join(","));
      for (const { client } of [frames, returning]) client.socket.destroy();
    },
  );

  test("TEXT-4: data that exceeds the limit only by its escapes is published unescaped", async () => {
    const spelled = (length: number): string => JSON.stringify("ä".repeat(length)).replaceAll("ä", "\\u00e4");
    const item = (length: number): string => `{"channel":"board:escapes","event":"e","data":${spelled(length)}}`;
    const most = 32 * 1024 - 1;
    expect((await post("/v1/publish", item(most))).status).toBe(200);
    expect((await fleet.api("GET", "/v1/channels/board:escapes/history")).text).toContain(
      JSON.stringify("ä".repeat(most)),
    );
    expect((await post("/v1/publish", item(most + 1))).body).toMatchObject({ code: "payload_too_large" });
    expect((await post("/v1/users/ada/send", `{"event":"e","data":${spelled(most)}}`)).status).toBe(202);
  });
});

const json = "application/json";
test.each([
  ["POST", "/v1/publish", json, '{"channel":"b:1","event":"e","data":"?"}'],
  ["POST", "/v1/publish", json, '{"channel":"b:1","event":"e","data":1,"id":"?"}'],
  ["POST", "/v1/publish/batch", json, '[{"channel":"b:1","event":"e","data":"?"}]'],
  ["POST", "/v1/publish/batch", "application/x-ndjson", '{"channel":"b:1","event":"e","data":"?"}\n'],
  ["POST", "/v1/users/ada/send", json, '{"event":"e","data":"?"}'],
  ["POST", "/v1/users/ada/disconnect", json, '{"reason":"?"}'],
  ["POST", "/v1/users/ada/subscribe", json, '{"channel":"b:1?"}'],
  ["PUT", "/v1/rules", json, '{"namespaces":{"a":{}},"?":1}'],
  ["PUT", "/v1/rules", "application/yaml", "# ?\nnamespaces: {}"],
])("TEXT-2: %s %s of %s with bytes that are not UTF-8 is refused", async (method, path, type, body) => {
  for (const bytes of [[0xff], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98]]) {
    const [before = "", after = ""] = body.split("?");
    const answer = await fetch(fleet.apiUrl + path, {
      method,
      headers: { authorization: `Bearer ${tokens.service}`, "content-type": type },
      body: Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(after)]),
    });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ code: "invalid_request", detail: "the body is not UTF-8" });
  }
});

/** A token with claims given as text. */
function tokenOf(claims: string | Buffer): string {
  const part = (content: string | Buffer): string => Buffer.from(content).toString("base64url");
  const signed = `${part('{"alg":"HS256"}')}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", jwtSecret).update(signed).digest("base64url")}`;
}

test("TEXT-2: a token whose claims are not UTF-8 is refused", async () => {
  const claims = Buffer.concat([Buffer.from('{"exp":9999999999,"sub":"'), Buffer.from([0xff]), Buffer.from('"}')]);
  expect((await refusedConnect(fleet.urls[0] ?? "", { token: tokenOf(claims) })).code).toBe("unauthenticated");
});

test("TEXT-2: a program does not start with a rules file that is not UTF-8", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-"));
  const file = join(folder, "rules.yaml");
  await writeFile(file, Buffer.concat([Buffer.from("# "), Buffer.from([0xff]), Buffer.from("\nnamespaces: {}")]));
  await expect(startFleet({ environment: { RULES_FILE: file } })).rejects.toThrow("is not UTF-8");
  await rm(folder, { recursive: true });
});

test.each([
  ["POST", "/v1/publish", '{"channel":"board:1","channel":"board:2","event":"e","data":1}'],
  ["POST", "/v1/publish", '{"channel":"board:1","event":"e","data":1,"d\\u0061ta":2}'],
  ["POST", "/v1/users/ada/send", '{"event":"e","data":1,"data":2}'],
  ["POST", "/v1/users/ada/send", '{"event":"e","data":1,"__proto__":{},"__proto__":{}}'],
])("TEXT-5: %s %s with a member beside the data given twice is refused", async (_method, path, text) => {
  const answer = await post(path, text);
  expect([answer.status, answer.body["code"]]).toEqual([400, "invalid_request"]);
  expect(answer.text).toContain("given twice");
});

test("TEXT-5: __proto__ beside the data counts as an unknown member", async () => {
  const answer = await post("/v1/publish", '{"channel":"board:1","event":"e","__proto__":{"data":1}}');
  expect(answer.body).toMatchObject({ code: "invalid_request" });
  expect(answer.text).toContain("__proto__");
});

test("TEXT-5: an item with a repeated member fails alone; within the data the last one counts", async () => {
  const item = '{"channel":"board:twice","event":"e","data":1}';
  const batch = await post(
    "/v1/publish/batch",
    `[${item},{"channel":"board:twice","event":"e","data":1,"data":2},${item}]`,
  );
  expect(JSON.parse(batch.text)).toMatchObject([{ offset: 1 }, { error: { code: "invalid_request" } }, { offset: 2 }]);
  const frames = await Frames.of();
  frames.client.socket.write(textFrame('4299["sync:subscribe",{"channel":"board:no","channel":"board:twice"}]'));
  expect(await frames.next("4399[")).toContain('"channel":"board:twice"');
  frames.client.socket.destroy();
});

test.each(["9007199254740993", "1e999", "-1", "0.5", '"0"'])("TEXT-6: %s is not an offset", async (offset) => {
  const text = `{"channel":"board:1","event":"e","data":1,"expect":{"epoch":"a","offset":${offset}}}`;
  expect((await post("/v1/publish", text)).body).toMatchObject({ code: "invalid_request" });
  const frames = await Frames.of();
  const request = `{"channel":"board:1","position":{"epoch":"a","offset":${offset}}}`;
  frames.client.socket.write(textFrame(`4299["sync:subscribe",${request}]`));
  expect(await frames.next("4399[")).toContain('"code":"invalid_request"');
  frames.client.socket.destroy();
});

describe("read and passed on", () => {
  const exact = '{"id":9007199254740993,"most":1e999}';

  test("TEXT-7: claims and info keep their numbers at services, members and after a resume", async () => {
    const frames = await Frames.of(
      tokenOf(`{"sub":"ada","exp":9999999999,"channels":["room:*"],"account":${exact},"info":${exact}}`),
    );
    await frames.client.subscribe("room:1");
    await frames.client.request("sync:presence", { channel: "room:1" });
    expect(await frames.next('"members":[')).toContain(`"info":${exact}`);
    expect(await frames.next('["sync:join"')).toContain(`"info":${exact}`);
    expect((await fleet.api("GET", "/v1/channels/room:1/presence")).text).toContain(`"info":${exact}`);

    const { resumeToken } = frames.client.welcome;
    frames.client.socket.destroy();
    const resumed = await RawClient.connect(new URL(fleet.urls[0] ?? ""), undefined, { resume: resumeToken });
    expect(resumed.welcome.resumed).toBe(true);
    await resumed.request("card.move", {});
    const [, jwt = ""] = service.requests.at(-1)?.headers.authorization?.split(".") ?? [];
    expect(Buffer.from(jwt, "base64url").toString()).toContain(`"account":${exact}`);
    resumed.socket.destroy();
  });

  test.each([
    ["application/json", `{"groups":[],"fallback":{"name":"f","config":${exact}}}`],
    [
      "application/yaml",
      "groups: []\nfallback: { name: f, config: { id: 9007199254740993, most: 340282366920938463463 } }",
    ],
  ])("TEXT-7: the config of a rollout, put as %s, reaches clients with its numbers", async (type, text) => {
    const put = await fleet.api("PUT", "/v1/rollouts", undefined, { text, headers: { "content-type": type } });
    expect(put.status).toBe(200);
    const config = type.endsWith("json") ? exact : '{"id":9007199254740993,"most":340282366920938463463}';
    await eventually(async () => (await (await fetch(`${fleet.urls[0]}/v1/bootstrap`)).text()).includes(config));
    expect((await fleet.api("GET", "/v1/rollouts")).text).toContain(config);
  });

  test("TEXT-7: YAML numbers without a JSON form are refused", async () => {
    const text = "groups: []\nfallback: { name: f, config: { most: 1e999, more: .inf } }";
    const put = await fleet.api("PUT", "/v1/rollouts", undefined, {
      text,
      headers: { "content-type": "application/yaml" },
    });
    expect([put.status, put.body["errors"]]).toEqual([
      400,
      ["most: JSON has no such number", "more: JSON has no such number"],
    ]);
  });
});
