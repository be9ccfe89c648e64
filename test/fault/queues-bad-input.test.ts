/** Items and services that misbehave: the documented answer, nothing lost, and no other key delayed. */
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Deployment, startDeployment } from "../../loadtest/checker/schedule-deployment.ts";
import type { Program } from "../../loadtest/checker/schedule-program.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let good: HttpService;
beforeAll(async () => {
  [redis, good] = await Promise.all([startRedis({ appendOnly: true }), startService()]);
});
beforeEach(() => {
  good.answer = (_request, response) => answerJson(response, {});
});
afterEach(closeClients);
afterAll(async () => {
  await Promise.all([redis.stop(), good.stop()]);
});

const route = { path: "/", mode: "enqueue", key: "/key" } as const;

/** Bodies of the requests with this key, in order. */
function numbersOf(key: string): number[] {
  return good.requests
    .map(({ body }) => JSON.parse(body) as { key: string; n: number })
    .flatMap((item) => (item.key === key ? [item.n] : []));
}

/** Answers bytes that no HTTP server would send. */
class RawService {
  readonly #arrived: { key: string; n: number }[] = [];
  /** Called with the connection once a whole request has arrived on it. */
  answer: (socket: Socket) => void = taken;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk.toString();
      const [, body] = /\r\n\r\n(\{.*"n":\d+\})$/s.exec(text) ?? [];
      if (body === undefined) return;
      text = "";
      this.#arrived.push(JSON.parse(body) as { key: string; n: number });
      this.answer(socket);
    });
  });

  /** Numbers of the items with this key, in order of arrival. Those of an earlier test may still come again. */
  arrived(key: string): number[] {
    return this.#arrived.flatMap((item) => (item.key === key ? [item.n] : []));
  }

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

function taken(socket: Socket): void {
  socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
}

describe("services", () => {
  const bad = new RawService();
  let badUrl: string;
  let fleet: Fleet;
  const rules = (goodRoute: object): object => ({
    services: {
      bad: { url: badUrl, secret: serviceSecret, timeoutMs: 300 },
      chatty: { url: badUrl, secret: serviceSecret },
      good: { url: good.url, secret: serviceSecret },
    },
    routes: [
      { ...route, event: "bad", service: "bad", retry: { attempts: 1_000, minMs: 1, maxMs: 50 } },
      { ...route, event: "chatty", service: "chatty" },
      { ...route, event: "good", service: "good", ...goodRoute },
    ],
  });
  beforeAll(async () => {
    badUrl = await bad.start();
    fleet = await startFleet({
      target: { kind: "standalone", url: redis.url },
      gateways: 2,
      rules: { ...rules({ class: "imports" }), classes: { imports: { share: 1 } } },
    });
  });
  afterAll(async () => {
    await fleet.stop();
    await bad.stop();
  });

  const drip = (socket: Socket): void => {
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
    const timer = setInterval(() => socket.write(" "), 20);
    socket.on("close", () => clearInterval(timer));
  };
  for (const [what, misbehave] of [
    ["does not answer", () => undefined],
    ["drips its answer", drip],
    ["ends its answer early", (socket: Socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}")],
    [
      "fails with an answer that claims to be huge",
      (socket: Socket) => socket.write("HTTP/1.1 500 Oops\r\ncontent-length: 9999999999\r\n\r\nx"),
    ],
    ["answers what is not HTTP", (socket: Socket) => socket.write("0123456789 what?\r\n\r\n")],
    ["closes the connection", (socket: Socket) => socket.destroy()],
  ] as const) {
    test(`DISP-13: a service that ${what} gets the item again; others wait for nothing`, async () => {
      const [clientOne, clientTwo] = await Promise.all(fleet.urls.map(async (url) => connectClient(url)));
      const key = `bad service ${what}`;
      bad.answer = misbehave;
      for (let n = 1; n <= 2; n++) await clientOne?.request("bad", { key, n });
      await eventually(() => bad.arrived(key).length >= 2);
      expect(new Set(bad.arrived(key))).toEqual(new Set([1]));
      for (let n = 1; n <= 3; n++) await clientTwo?.request("good", { key, n });
      await eventually(() => numbersOf(key).length === 3);
      expect(new Set(bad.arrived(key))).toEqual(new Set([1]));
      bad.answer = taken;
      // A circuit that opened meanwhile asks again after a few seconds.
      await eventually(() => bad.arrived(key).at(-1) === 2);
      expect(bad.arrived(key).toSorted((a, b) => a - b)).toEqual(bad.arrived(key));
      expect(numbersOf(key)).toEqual([1, 2, 3]);
    });
  }

  test("DISP-13: an answer that is longer than it says was an answer all the same", async () => {
    const client = await connectClient(fleet.urls[0] ?? "");
    bad.answer = (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}and more that nobody expects");
    for (let n = 1; n <= 3; n++) await client.request("chatty", { key: "longer", n });
    await eventually(() => bad.arrived("longer").at(-1) === 3);
    expect(bad.arrived("longer")).toEqual([1, 2, 3]);
  });

  test("RULE-5: rules with a route of an unknown class are refused, and those in force stay", async () => {
    const before = (await fleet.api("GET", "/v1/rules")).text;
    const answer = await fleet.api("PUT", "/v1/rules", rules({ class: "unheard" }));
    expect([answer.status, answer.body["code"]]).toEqual([400, "invalid_request"]);
    expect(answer.text).toContain("no such class");
    expect((await fleet.api("GET", "/v1/rules")).text).toBe(before);
  });

  test("DISP-14: items of a class that was taken out of the rules are delivered", async () => {
    const key = "class that is gone";
    const client = await connectClient(fleet.urls[0] ?? "");
    const held = Promise.withResolvers<() => void>();
    good.answer = (_request, response) => held.resolve(() => answerJson(response, {}));
    for (let n = 1; n <= 3; n++) await client.request("good", { key, n });
    const answer = await held.promise;
    expect((await fleet.api("PUT", "/v1/rules", rules({}))).status).toBe(200);
    good.answer = (_request, response) => answerJson(response, {});
    answer();
    await eventually(() => numbersOf(key).length === 3);
    expect(numbersOf(key)).toEqual([1, 2, 3]);
  });
});

describe("an item that kills its workers", () => {
  const poison = "poison";
  let deployment: Deployment;
  beforeAll(async () => {
    const settings = { REDIS_URL: `${redis.url}/1` };
    deployment = await startDeployment({
      gateways: [settings],
      privateApis: [settings, settings],
      rules: {
        services: { good: { url: good.url, secret: serviceSecret, timeoutMs: 60_000 } },
        routes: [{ ...route, event: "good", service: "good", retry: { attempts: 2, minMs: 1, maxMs: 50 } }],
      },
    });
  });
  afterAll(async () => {
    await deployment.stop();
  });

  test("DISP-11: an item that kills every worker becomes a dead letter; other keys go on meanwhile", async () => {
    const [first, second] = deployment.privateApis;
    if (!first || !second) throw new Error("two workers");
    await second.kill();
    let deaths = 0;
    /** The other one is there before the holder ends: nobody waits for a start. */
    const endHolder = async (holder: Program, other: Program): Promise<void> => {
      other.restart();
      await other.ready();
      await holder.kill();
      deaths++;
    };
    good.answer = (request, response) => {
      const { key, n } = JSON.parse(request.body) as { key: string; n: number };
      if (key !== poison || n > 1) answerJson(response, {});
      else void (deaths === 0 ? endHolder(first, second) : endHolder(second, first));
    };
    const client = await connectClient(deployment.gatewayUrls[0] ?? "");
    for (let n = 1; n <= 2; n++) await client.request("good", { key: poison, n });
    await eventually(() => deaths === 1);
    await client.request("good", { key: "others", n: 1 });
    await eventually(() => numbersOf("others").length === 1);
    // The lease of the poisonous item has not ended yet.
    expect(numbersOf(poison)).toEqual([1]);
    await eventually(() => numbersOf(poison).length === 3, 90_000);
    expect(numbersOf(poison)).toEqual([1, 1, 2]);
    expect(deaths).toBe(2);
    const answer = await fetch(`${deployment.apiUrl}/v1/dead-letters`, {
      headers: { authorization: `Bearer ${tokens.service}` },
    });
    expect(await answer.json()).toMatchObject({
      items: [{ key: poison, attempts: 2, data: { key: poison, n: 1 }, lastError: { code: "upstream_unavailable" } }],
    });
  }, 240_000);
});
