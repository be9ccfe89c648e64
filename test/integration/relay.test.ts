/** The relay between gateway and private API: a faulty peer costs the others nothing. */
import { once } from "node:events";
import { type ClientRequest, request as httpRequest, type ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Question, RelayClient } from "../../gateway/relay/relay-client.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { eventually } from "../support/eventually.ts";
import { type FakePrivateApi, startFakePrivateApi } from "../support/fake-private-api.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const question = (sessionId: string, timeoutMs = 20_000): Question & { kind: "call" } => ({
  kind: "call",
  event: "work",
  eventId: "an-id",
  identity: { user: "ada", sessionId, claims: {} },
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  timeoutMs,
});

function idOf(line: string): number {
  return (JSON.parse(line.split("\t")[0] ?? "") as { id: number }).id;
}

describe("the gateway's side", () => {
  let api: FakePrivateApi;
  let relay: RelayClient;
  let errors: ContainedErrors;
  let log: string;

  async function connect(to: FakePrivateApi): Promise<void> {
    log = "";
    const logger = createLogger({ name: "test", level: "info", destination: { write: (line) => void (log += line) } });
    errors = new ContainedErrors(logger);
    const profile = { instance: "one", maxConnections: 100, resumeSecrets: [], jwtSecrets: [] };
    const options = { addresses: [to.url], token: "a-token", node: "node-1", profile, burst: 100, errors, logger };
    relay = new RelayClient(options);
    await relay.start();
  }

  beforeEach(async () => {
    api = await startFakePrivateApi();
    await connect(api);
  });
  afterEach(async () => {
    await relay.stop();
    await api.stop();
  });

  const ask = async (data: unknown, { service = "a", session = "one", timeoutMs = 20_000 } = {}) =>
    relay.ask(question(session, timeoutMs), { service, data: JSON.stringify(data), dataBytes: 100 });

  test.each<[string, (id: number) => string]>([
    ["is too long", (id) => `{"id":${id},"ok":true}\t"${"x".repeat(1_300_000)}"`],
    ["has a payload that is no JSON", (id) => `{"id":${id},"ok":true}\t[1,]`],
    ["would end the ack's frame early", (id) => `{"id":${id},"ok":true}\t1]`],
    ["has a payload that is nested too deep", (id) => `{"id":${id},"ok":true}\t${"[".repeat(200)}${"]".repeat(200)}`],
    ["has no payload", (id) => `{"id":${id},"ok":true}`],
    ["has a head that does not follow the schema", (id) => `{"id":${id},"ok":"yes"}\t1`],
    ["has a head that is no JSON", (id) => `{"id":${id},`],
  ])("RELAY-5: an answer that %s fails its own call only", async (_name, bad) => {
    const held: string[] = [];
    api.onQuestion = (line, response) => {
      held.push(line);
      if (held.length < 3) return;
      const [first = "", second = "", third = ""] = held.map((line) => String(idOf(line)));
      response.write(`{"id":${first},"ok":true}\t1\n${bad(Number(second))}\n{"id":${third},"ok":true}\t3\n`);
    };
    const answers = await Promise.all([ask(1), ask(2), ask(3)]);
    expect(answers).toEqual([
      { ok: true, data: "1" },
      { ok: false, error: expect.objectContaining({ code: "upstream_bad_response" }) as unknown },
      { ok: true, data: "3" },
    ]);
    expect(api.opened).toHaveLength(1);
  });

  test("RELAY-4: a process that still gives other answers does not count as hanging", async () => {
    api.onQuestion = (line, response) => {
      if (!line.includes("forgotten")) response.write(`{"id":${idOf(line)},"ok":true}\t1\n`);
    };
    let over = false;
    const forgotten = ask("forgotten", { timeoutMs: 1 }).finally(() => (over = true));
    while (!over) expect(await ask(1)).toEqual({ ok: true, data: "1" });
    expect(await forgotten).toMatchObject({ ok: false, error: { code: "upstream_timeout" } });
    expect(await ask(1)).toEqual({ ok: true, data: "1" });
    expect(api.opened).toHaveLength(1);
  });

  test("RELAY-5: unreadable lines are logged once and cut no link when their calls time out", async () => {
    let holding = "";
    api.onQuestion = (line, response) => {
      if (line.endsWith('\t"hold"')) holding = line;
      else response.write('no line\n{"id":-1}\n\u0000\n');
    };
    const held = ask("hold");
    const lost = await ask("lose", { timeoutMs: 50 });
    expect(lost).toMatchObject({ error: { code: "upstream_timeout" } });
    await eventually(() => errors.counts.relay === 3);
    expect(log.match(/contained error/g)).toHaveLength(1);
    api.onQuestion = (_line, response) => response.write(`{"id":${idOf(holding)},"ok":true}\t"late"\n`);
    await ask("any", { timeoutMs: 10 });
    expect(await held).toEqual({ ok: true, data: '"late"' });
    expect(api.opened).toHaveLength(1);
  });

  test("RELAY-6: hanging calls fill the share of their service and leave room for the rest", async () => {
    api.onQuestion = (line, response) => {
      if (!line.endsWith('\t"hang"')) response.write(`{"id":${idOf(line)},"ok":true}\t1\n`);
    };
    const hung = Array.from({ length: 9_000 }, async (_, i) =>
      relay.ask(question(`session-${Math.floor(i / 100)}`), { service: "a", data: '"hang"', dataBytes: 6 }),
    );
    const refused = await Promise.race(hung);
    expect(refused).toMatchObject({ error: { code: "upstream_unavailable", retryable: true, retryAfterMs: 1_000 } });
    expect(relay.pendingCount).toBe(8_750);
    expect(await ask(1, { service: "b", session: "another" })).toEqual({ ok: true, data: "1" });
    const { event: _event, eventId: _eventId, ...common } = question("new");
    const connect = { ...common, kind: "connect", address: "127.0.0.1", userAgent: "" } as const;
    expect(await relay.ask(connect)).toEqual({ ok: true, data: "1" });
    const subscribe = { ...common, kind: "subscribe", channel: "board:1" } as const;
    expect(await relay.ask(subscribe)).toEqual({ ok: true, data: "1" });
  });

  test("RELAY-6: a session that waits for each answer may ask any number of questions", async () => {
    api.onQuestion = (line, response) => response.write(`{"id":${idOf(line)},"ok":true}\t1\n`);
    for (let asked = 0; asked < 600; asked++) expect(await ask(1)).toEqual({ ok: true, data: "1" });
  });

  test("RELAY-9: the log says once why a private API refuses the gateway", async () => {
    const other = await startFakePrivateApi({
      refuse: (response) => answerJson(response, { detail: `speaks version 1 ${"x".repeat(10_000)}` }, 400),
    });
    await relay.stop();
    await connect(other);
    await eventually(() => other.opened.length > 3);
    expect(other.opened[0]).toMatchObject({ "tidegate-relay": "2" });
    expect(relay.openLinks).toBe(0);
    expect(log.match(/speaks version 1/g)).toHaveLength(1);
    expect(log.length).toBeLessThan(2_000);
    await relay.stop();
    await other.stop();
  });

  test("RELAY-10: a refusal whose text never arrives does not keep the gateway from the next attempt", async () => {
    const other = await startFakePrivateApi({
      refuse: (response) => response.writeHead(503).flushHeaders(),
    });
    await relay.stop();
    const connected = connect(other);
    await eventually(() => other.opened.length > 1);
    await connected;
    expect(relay.openLinks).toBe(0);
    await relay.stop();
    await other.stop();
  });

  test("RELAY-10: of drained streams that the private API leaves open, the gateway keeps one", async () => {
    api.endsStreams = false;
    for (let drained = 1; drained <= 4; drained++) {
      await eventually(() => api.opened.length === drained);
      api.drain();
    }
    await eventually(() => api.opened.length === 5);
    // The stream in use, and the last one that was drained.
    await eventually(() => api.openStreams === 2);
  });
});

describe("the private API's side", () => {
  let fleet: Fleet;
  let service: HttpService;
  let other: HttpService;

  beforeEach(async () => {
    [service, other] = [await startService(), await startService()];
    fleet = await startFleet({
      rules: {
        services: {
          work: { url: service.url, secret: serviceSecret, timeoutMs: 20_000 },
          other: { url: other.url, secret: serviceSecret },
        },
        routes: ["work", "other"].map((name) => ({ event: name, service: name, path: "/", mode: "call" })),
        hooks: { connect: "work", subscribe: "work" },
      },
    });
  });
  afterEach(async () => {
    closeClients();
    await fleet.stop();
    await Promise.all([service.stop(), other.stop()]);
  });

  /** A stream of a gateway, by hand. */
  async function openStream(
    headers: Record<string, string>,
  ): Promise<{ stream: ClientRequest; lines: string[]; status: number }> {
    const stream = httpRequest(`${fleet.apiUrl}/v1/relay`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens.relay}`, "content-type": "application/x-ndjson", ...headers },
    });
    stream.on("error", () => stream.destroy());
    stream.write('{"hello":2,"node":"by hand"}\n');
    const [response] = (await once(stream, "response")) as [{ statusCode: number } & NodeJS.ReadableStream];
    const lines: string[] = [];
    response.setEncoding("utf8");
    response.on("data", (text: string) => lines.push(...text.split("\n").filter(Boolean)));
    return { stream, lines, status: response.statusCode };
  }

  test("RELAY-5: an unreadable question fails alone on its stream", async () => {
    const { stream, lines } = await openStream({ "tidegate-relay": "2" });
    const good = (id: number): string => `${JSON.stringify({ id, ...question("s"), event: "other" })}\t1\n`;
    const long = `${JSON.stringify({ id: 3, ...question("s") })}\t"${"x".repeat(300_000)}"\n`;
    stream.write(`${good(1)}{"id":2,"kind":"call"}\t1\n${long}no question\n{"id":4,\n${good(5)}`);
    await eventually(() => lines.length === 5);
    const answers = new Map(lines.map((line) => [idOf(line), line]));
    expect(answers.get(1)).toBe('{"id":1,"ok":true}\t{}');
    for (const id of [2, 3, 4]) expect(answers.get(id)).toContain('"code":"upstream_bad_response"');
    expect(answers.get(5)).toBe('{"id":5,"ok":true}\t{}');
    const metrics = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
    expect(metrics).toContain('tidegate_contained_errors_total{boundary="relay"} 4');
    stream.end();
  });

  test("TEXT-1: a question of a user or a tenant whose name is half a surrogate pair fails alone, unasked", async () => {
    const { stream, lines } = await openStream({ "tidegate-relay": "2" });
    const asked = service.requests.length;
    const identity = { user: "ada", sessionId: "s", claims: {} };
    const ofOne = (id: number, more: object): string =>
      `${JSON.stringify({ id, ...question("s"), identity: { ...identity, ...more } })}\t1\n`;
    stream.write(`${ofOne(1, { tenant: "\ud800" })}${ofOne(2, { user: "\ud800" })}`);
    await eventually(() => lines.length === 2);
    for (const line of lines) expect(line).toContain('"code":"upstream_bad_response"');
    expect(lines.join("")).toContain("the head does not match the schema");
    expect(service.requests.length).toBe(asked);
    stream.end();
  });

  test("RELAY-5: a question whose text is no event or cannot stand in a header fails alone, unasked", async () => {
    const { stream, lines } = await openStream({ "tidegate-relay": "2" });
    const asked = other.requests.length;
    const { identity, ...sound } = { ...question("s"), event: "other" };
    const flaws = [
      { event: "\ud800" },
      { event: "x".repeat(10_000) },
      { eventId: "a\nb" },
      { traceparent: "\u0100" },
      { identity: { ...identity, sessionId: "a b" } },
    ];
    for (const [id, flaw] of flaws.entries()) {
      stream.write(`${JSON.stringify({ id, identity, ...sound, ...flaw })}\t1\n`);
    }
    await eventually(() => lines.length === flaws.length);
    for (const line of lines) expect(line).toContain("the head does not match the schema");
    expect(other.requests.length).toBe(asked);
    stream.end();
  });

  test.each([{}, { "tidegate-relay": "3" }])(
    "RELAY-9: the private API refuses a gateway of another version: %j",
    async (headers) => {
      const { stream, lines, status } = await openStream(headers);
      expect(status).toBe(400);
      await eventually(() => lines.length > 0);
      expect(lines.join("")).toContain("relay version 2");
      expect(fleet.log()).toContain("a gateway of another relay version is refused");
      stream.destroy();
    },
  );

  test("ECHO-1: a refusal, and its log line, repeat little of a version", async () => {
    const { stream, lines } = await openStream({ "tidegate-relay": "x".repeat(10_000) });
    await eventually(() => lines.length > 0);
    const long = "x".repeat(101);
    expect([lines.join("").includes(long), fleet.log().includes(long)]).toEqual([false, false]);
    stream.destroy();
  });

  test("RELAY-7: clients connect and subscribe while calls to the service of the hooks hang", async () => {
    const hanging: ServerResponse[] = [];
    service.answer = (request, response) => {
      if (request.path === "/") hanging.push(response);
      else answerJson(response, {});
    };
    const url = fleet.urls[0] ?? "";
    const clients = await Promise.all(Array.from({ length: 12 }, (_, i) => connectClient(url, { sub: `user-${i}` })));
    for (const client of clients) for (let i = 0; i < 90; i++) client.socket.emit("work", "x".repeat(20_000));
    await eventually(() => hanging.length === 56);
    const late = await connectClient(url, { sub: "late" });
    expect(await late.request("sync:subscribe", { channel: "hooked:1" })).toMatchObject({ ok: true });
    expect((await late.request("other", 1)).ok).toBe(true);
    service.answer = (_request, response) => answerJson(response, {});
    for (const response of hanging) answerJson(response, {});
  });
});
