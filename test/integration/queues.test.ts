/** Events on enqueue routes: from a client's emit to the service, over two gateways and a real Redis. */
import { decodeJwt } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Webhook } from "standardwebhooks";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient, userToken } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let service: HttpService;
let audit: HttpService;

beforeAll(async () => {
  [redis, service, audit] = await Promise.all([startRedis(), startService(), startService()]);
  const retry = { attempts: 3, minMs: 1, maxMs: 20 };
  const route = { service: "documents", path: "/edits/{event}", mode: "enqueue", retry };
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: {
      classes: { stats: { share: 1, whenFull: "drop" } },
      quotas: { perTenant: 30 },
      services: {
        documents: { url: service.url, secret: serviceSecret },
        audit: { url: audit.url, secret: serviceSecret },
      },
      routes: [
        { ...route, event: "doc.edit", key: "/docId" },
        { ...route, event: "doc.user" },
        { ...route, event: "doc.batch", key: "/docId", batch: 3 },
        { ...route, event: "doc.also", key: "/docId", also: ["audit"] },
        { ...route, event: "doc.stats", class: "stats" },
      ],
    },
  });
});
beforeEach(() => {
  service.answer = (_request, response) => answerJson(response, {});
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await Promise.all([redis.stop(), service.stop(), audit.stop()]);
});

let documents = 0;
function newDocument(): string {
  return `document-${++documents}`;
}

function arrived(docId: string, at: HttpService = service): ServiceRequest[] {
  return at.requests.filter(({ body }) => body.includes(`"${docId}"`));
}

async function newClient(gateway = 0, claims: Record<string, unknown> = {}): Promise<StockClient> {
  return connectClient(fleet.urls[gateway] ?? "", claims);
}

describe("enqueue routes", () => {
  test("ENQ-1: the ack says that the event is stored, with the ce-id of its request", async () => {
    const docId = newDocument();
    const client = await newClient();
    const ack = await client.request("doc.edit", { docId, text: "ä" });
    expect(ack).toEqual({ ok: true, queued: true, id: expect.any(String) as string });
    await eventually(() => arrived(docId).length === 1);
    const [request] = arrived(docId);
    expect(request).toMatchObject({
      path: "/edits/doc.edit",
      body: JSON.stringify({ docId, text: "ä" }),
      headers: {
        "ce-id": (ack as unknown as { id: string }).id,
        "ce-type": "doc.edit",
        "ce-partitionkey": docId,
        "ce-sequence": expect.stringMatching(/^\d{20}$/) as string,
        "ce-fence": expect.stringMatching(/^\d{20}$/) as string,
        "tidegate-attempt": "1",
      },
    });
    new Webhook(serviceSecret.slice("whsec_".length)).verify(
      request?.body ?? "",
      request?.headers as Record<string, string>,
    );
  });

  test("ENQ-2: events of one key arrive in the order of their emits, one at a time, from both gateways", async () => {
    const docId = newDocument();
    let open = 0;
    service.answer = (_request, response) => {
      expect(++open).toBe(1);
      setImmediate(() => {
        open--;
        answerJson(response, {});
      });
    };
    const [one, two] = [await newClient(0), await newClient(1)];
    await Promise.all(
      [one, two].map(async (client, source) => {
        // Pipelined: no more than the tenant's quota at once.
        for (let round = 0; round < 5; round++) {
          const emits = [0, 1].map(async (at) => client.request("doc.edit", { docId, source, n: round * 2 + at }));
          for (const ack of await Promise.all(emits)) expect(ack.ok).toBe(true);
          await eventually(() => arrived(docId).length >= 2 * (round + 1));
        }
      }),
    );
    await eventually(() => arrived(docId).length === 20);
    const bodies = arrived(docId).map(({ body }) => JSON.parse(body) as { source: number; n: number });
    for (const source of [0, 1]) {
      expect(bodies.filter((body) => body.source === source).map(({ n }) => n)).toEqual([
        ...Array.from({ length: 10 }).keys(),
      ]);
    }
    const sequences = arrived(docId).map(({ headers }) => headers["ce-sequence"] ?? "");
    expect(sequences).toEqual(sequences.toSorted((a, b) => (a < b ? -1 : 1)));
  });

  test("ENQ-3: a client's id makes a repeat safe, also on another gateway", async () => {
    const docId = newDocument();
    const [one, two] = [await newClient(0), await newClient(1)];
    const options = { id: "edit-1" };
    const first = await one.request("doc.edit", { docId, n: 1 }, options);
    const again = await two.request("doc.edit", { docId, n: 1 }, options);
    expect(again).toEqual(first);
    await one.request("doc.edit", { docId, n: 2 });
    await eventually(() => arrived(docId).length === 2);
    expect(arrived(docId).map(({ body }) => (JSON.parse(body) as { n: number }).n)).toEqual([1, 2]);
  });

  test("ENQ-4: a key that is missing or no scalar is refused, and nothing is stored", async () => {
    const client = await newClient();
    for (const data of [{}, { docId: null }, { docId: {} }, { docId: [1] }, null, 5, { docId: "x".repeat(257) }]) {
      expect(await client.request("doc.edit", data)).toMatchObject({ ok: false, error: { code: "invalid_request" } });
    }
    const before = service.requests.length;
    await client.request("doc.edit", { docId: 9_007_199_254_740_991 });
    await eventually(() => service.requests.length === before + 1);
    expect(service.requests.at(-1)?.headers["ce-partitionkey"]).toBe("9007199254740991");
  });

  test("ENQ-5: without a key pointer the key is the user", async () => {
    const client = await newClient(0, { sub: "Grace Ünlü" });
    const marker = newDocument();
    await client.request("doc.user", { marker });
    await eventually(() => arrived(marker).length === 1);
    expect(arrived(marker)[0]?.headers["ce-partitionkey"]).toBe("Grace%20%C3%9Cnl%C3%BC");
  });

  test("CALL-4: an event that is queued after a refresh names the claims of the new token", async () => {
    const docId = newDocument();
    const client = await newClient(0, { role: "reader" });
    await client.request("doc.edit", { docId });
    const token = await userToken({ role: "editor" });
    expect((await client.request("sync:refresh", { token })).ok).toBe(true);
    await client.request("doc.edit", { docId });
    await eventually(() => arrived(docId).length === 2);
    const roles = arrived(docId).map(({ headers }) => {
      const { claims } = decodeJwt(String(headers["authorization"]).replace("Bearer ", ""));
      return (claims as { role: string }).role;
    });
    expect(roles).toEqual(["reader", "editor"]);
  });

  test("ENQ-6: services of also get the event with an id and a sequence of their own", async () => {
    const docId = newDocument();
    const client = await newClient();
    await client.request("doc.also", { docId });
    await eventually(() => arrived(docId).length === 1 && arrived(docId, audit).length === 1);
    expect(arrived(docId, audit)[0]?.headers["ce-id"]).not.toBe(arrived(docId)[0]?.headers["ce-id"]);
    expect(arrived(docId, audit)[0]?.body).toBe(arrived(docId)[0]?.body);
  });

  test("ENQ-7: a full tenant is refused with a time to retry, or its items are dropped, as the ack says", async () => {
    const held: (() => void)[] = [];
    service.answer = (_request, response) => held.push(() => answerJson(response, {}));
    const tenant = newDocument();
    const client = await newClient(0, { tenant });
    for (let n = 0; n < 29; n++)
      expect(await client.request("doc.edit", { docId: "full", n })).toMatchObject({ ok: true });
    const safe = { id: "twice" };
    const first = await client.request("doc.edit", { docId: "full", n: 29 }, safe);
    const refused = await client.request("doc.edit", { docId: "full", n: 30 });
    expect(refused).toMatchObject({ ok: false, error: { code: "rate_limited", retryable: true } });
    expect(await client.request("doc.stats", { n: 31 })).toMatchObject({ ok: true, queued: false });
    // A repeat of what is stored needs no room.
    expect(await client.request("doc.edit", { docId: "full", n: 29 }, safe)).toEqual({ ...first, ok: true });
    const other = await newClient(1, { tenant: newDocument() });
    expect(await other.request("doc.edit", { docId: "full" })).toMatchObject({ ok: true, queued: true });
    service.answer = (_request, response) => answerJson(response, {});
    await eventually(() => {
      for (const answer of held.splice(0)) answer();
      return arrived("full").length >= 31;
    });
  });

  test("ENQ-8: batches carry up to n items of one key as an array", async () => {
    const docId = newDocument();
    const gate = Promise.withResolvers<void>();
    let first = true;
    service.answer = (_request, response) => {
      if (!first) return answerJson(response, {});
      first = false;
      void gate.promise.then(() => answerJson(response, {}));
    };
    const client = await newClient();
    await client.request("doc.batch", { docId, n: 0 });
    await eventually(() => arrived(docId).length === 1);
    for (let n = 1; n <= 3; n++) await client.request("doc.batch", { docId, n });
    gate.resolve();
    await eventually(() => arrived(docId).length === 2);
    expect(arrived(docId).map(({ body }) => (JSON.parse(body) as { n: number }[]).map(({ n }) => n))).toEqual([
      [0],
      [1, 2, 3],
    ]);
  });
});

describe("queues over the private API", () => {
  /** The next item of a document fails at once: the service answers 400. */
  async function failOne(docId: string): Promise<void> {
    service.answer = (_request, response) => answerJson(response, {}, 400);
    const client = await newClient();
    await client.request("doc.edit", { docId, text: "ö 1e999" });
    await eventually(async () => (await letters(docId)).length === 1);
    service.answer = (_request, response) => answerJson(response, {});
  }

  async function letters(key: string): Promise<Record<string, unknown>[]> {
    const { body } = await fleet.api("GET", "/v1/dead-letters?limit=1000");
    return (body["items"] as Record<string, unknown>[]).filter((letter) => letter["key"] === key);
  }

  test("DISP-1: ce-id, ce-time and webhook-id stay the same through all attempts", async () => {
    const docId = newDocument();
    const before = Date.now();
    service.answer = (_request, response) => answerJson(response, {}, arrived(docId).length < 3 ? 500 : 200);
    const client = await newClient();
    await client.request("doc.edit", { docId });
    await eventually(() => arrived(docId).length === 3);
    for (const name of ["ce-id", "ce-time", "webhook-id"]) {
      expect(new Set(arrived(docId).map(({ headers }) => headers[name]))).toHaveLength(1);
    }
    // A minute: the store's clock is estimated, and a busy machine is late.
    expect(Math.abs(Date.parse(String(arrived(docId)[0]?.headers["ce-time"])) - before)).toBeLessThan(60_000);
  });

  test("QAPI-1: a dead letter says what failed, and a retry delivers it again", async () => {
    const docId = newDocument();
    await failOne(docId);
    const [letter] = await letters(docId);
    expect(letter).toMatchObject({
      ...{ key: docId, tenant: "", class: "messages", event: "doc.edit", service: "documents", attempts: 1 },
      lastError: { code: "upstream_rejected", status: 400 },
      data: { docId, text: "ö 1e999" },
    });
    const id = String(letter?.["id"]);
    expect((await fleet.api("POST", `/v1/dead-letters/${id}/retry`)).status).toBe(202);
    await eventually(() => arrived(docId).length === 2);
    const [first, again] = arrived(docId);
    expect(again?.headers["ce-id"]).toBe(first?.headers["ce-id"]);
    expect((again?.headers["ce-sequence"] ?? "") > (first?.headers["ce-sequence"] ?? "")).toBe(true);
    expect(again?.headers["tidegate-attempt"]).toBe("1");
    expect((await fleet.api("POST", `/v1/dead-letters/${id}/retry`)).status).toBe(404);
    expect(await letters(docId)).toEqual([]);
  });

  test("QAPI-2: dead letters are retried by key or service, and deleted one by one", async () => {
    const [kept, retried] = [newDocument(), newDocument()];
    await failOne(kept);
    await failOne(retried);
    expect((await fleet.api("POST", "/v1/dead-letters/retry", {})).status).toBe(400);
    const answer = await fleet.api("POST", "/v1/dead-letters/retry", { key: retried });
    expect(answer.body).toEqual({ retried: 1 });
    await eventually(() => arrived(retried).length === 2);
    const [letter] = await letters(kept);
    expect((await fleet.api("DELETE", `/v1/dead-letters/${String(letter?.["id"])}`)).status).toBe(204);
    expect((await fleet.api("DELETE", `/v1/dead-letters/${String(letter?.["id"])}`)).status).toBe(404);
    expect((await fleet.api("POST", "/v1/dead-letters/retry", { all: true })).body).toEqual({ retried: 0 });
  });

  test("QAPI-6: a page follows on next, also where that letter is gone; a bad query is refused", async () => {
    const key = newDocument();
    for (let n = 0; n < 3; n++) await failOne(`${key}/${n}%"\u2028`);
    const pages: Record<string, unknown>[][] = [];
    for (let next = ""; pages.length < 9;) {
      const { body } = await fleet.api("GET", `/v1/dead-letters?limit=1${next && `&after=${next}`}`);
      pages.push(body["items"] as Record<string, unknown>[]);
      if (typeof body["next"] !== "string") break;
      next = body["next"];
      expect((await fleet.api("DELETE", `/v1/dead-letters/${next}`)).status).toBe(204);
    }
    expect(pages.flat().map((letter) => letter["key"])).toEqual([0, 1, 2].map((n) => `${key}/${n}%"\u2028`));
    for (const query of ["limit=0", "limit=1001", "limit=x", "after=", "after=one", "before=1"]) {
      const { status, body } = await fleet.api("GET", `/v1/dead-letters?${query}`);
      expect([query, status, body["code"]]).toEqual([query, 400, "invalid_request"]);
    }
    const last = pages.flat().at(-1);
    expect((await fleet.api("DELETE", `/v1/dead-letters/${String(last?.["id"])}`)).status).toBe(204);
  });

  test("QAPI-3: all configured classes are listed, with what waits and is in flight", async () => {
    const docId = newDocument();
    const gate = Promise.withResolvers<void>();
    service.answer = (_request, response) => void gate.promise.then(() => answerJson(response, {}));
    const tenant = newDocument();
    const client = await newClient(0, { tenant });
    // A claim takes what is there, up to the largest batch of the service.
    await client.request("doc.edit", { docId, n: 0 });
    await eventually(() => arrived(docId).length === 1);
    for (let n = 1; n < 4; n++) await client.request("doc.edit", { docId, n });
    const { body } = await fleet.api("GET", "/v1/queues", undefined, { token: tokens.reader });
    expect(body).toMatchObject({
      classes: [
        { class: "messages", waiting: 3, keys: 1, inFlight: 1 },
        { class: "stats", waiting: 0, keys: 0, inFlight: 0, oldestMs: 0 },
      ],
      tenants: [{ tenant, waiting: 3 }],
      deadLetters: 0,
    });
    gate.resolve();
    await eventually(() => arrived(docId).length === 4);
  });

  test("QAPI-4: a delayed key continues when it is released; reading needs read, changing needs operate", async () => {
    const docId = newDocument();
    service.answer = (_request, response) => {
      response.writeHead(503, { "retry-after": "3600" });
      response.end();
    };
    const client = await newClient();
    await client.request("doc.edit", { docId });
    await eventually(() => arrived(docId).length === 1);
    const release = async (body: object, token?: string) =>
      fleet.api("POST", "/v1/queues/release", body, token === undefined ? {} : { token });
    service.answer = (_request, response) => answerJson(response, {});
    expect((await release({ key: docId }, tokens.reader)).status).toBe(403);
    expect((await release({ key: docId, tenant: "another" })).status).toBe(404);
    await eventually(async () => (await release({ key: docId, service: "documents" })).status === 200);
    await eventually(() => arrived(docId).length === 2);
    expect((await fleet.api("GET", "/v1/dead-letters", undefined, { token: tokens.reader })).status).toBe(200);
    expect((await fleet.api("DELETE", "/v1/dead-letters/1-1", undefined, { token: tokens.reader })).status).toBe(403);
  });

  test("QAPI-5: metrics tell what waits, is in flight and failed, by class and service", async () => {
    const docId = newDocument();
    const gate = Promise.withResolvers<void>();
    service.answer = (_request, response) => void gate.promise.then(() => answerJson(response, {}));
    const client = await newClient();
    await client.request("doc.edit", { docId, n: 0 });
    await eventually(() => arrived(docId).length === 1);
    for (let n = 1; n < 3; n++) await client.request("doc.edit", { docId, n });
    const lineOf = async (name: string): Promise<string | undefined> => {
      const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
      return text.split("\n").find((line) => line.startsWith(name));
    };
    // A reading may be half a second old.
    await eventually(
      async () =>
        (await lineOf('tidegate_queue_items_waiting{class="messages",service="documents"}'))?.endsWith(" 2") === true,
    );
    expect(await lineOf('tidegate_queue_items_in_flight{class="messages",service="documents"}')).toMatch(/ 1$/);
    expect(await lineOf('tidegate_queue_items_waiting{class="stats",service="documents"}')).toMatch(/ 0$/);
    expect(await lineOf("tidegate_queue_dead_letters")).toMatch(/ 0$/);
    gate.resolve();
    await eventually(() => arrived(docId).length === 3);
    const delivered = 'tidegate_queue_deliveries_total{class="messages",service="documents",outcome="done"}';
    await eventually(async () => (await lineOf(delivered)) !== undefined);
  });
});
