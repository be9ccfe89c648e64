/** Webhooks out: from a publish to a signed request at an endpoint, in memory and on Redis. */
import type { ServerResponse } from "node:http";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";

const rules = { namespaces: { board: { changes: true }, tidegate: { changes: true } } };
const environment = { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" };

interface Created {
  id: string;
  secrets: string[];
}

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => redis.stop());

describe.each(["memory", "Redis"])("on %s", (store) => {
  let fleet: Fleet;
  const begun: HttpService[] = [];

  beforeAll(async () => {
    const target = store === "Redis" ? { target: { kind: "standalone" as const, url: redis.url } } : {};
    fleet = await startFleet({ ...target, rules, environment });
  });
  afterAll(async () => {
    await fleet.stop();
    await Promise.all(begun.map(async (service) => service.stop()));
  });

  async function receiver(): Promise<HttpService> {
    const service = await startService();
    begun.push(service);
    return service;
  }

  async function create(url: string, more: object = {}): Promise<Created> {
    const answer = await fleet.api("POST", "/v1/endpoints", { url, channels: ["board:*"], ...more });
    expect(answer.status, answer.text).toBe(201);
    return answer.body as unknown as Created;
  }

  async function publish(channel: string, data: unknown, event = "card.moved"): Promise<void> {
    const answer = await fleet.api("POST", "/v1/publish", { channel, event, data });
    expect(answer.status, answer.text).toBe(200);
  }

  /** An attempt is noted once its answer has come. */
  async function attemptsOf(id: string, count: number): Promise<Record<string, unknown>[]> {
    let items: Record<string, unknown>[] = [];
    await eventually(async () => {
      const { body } = await fleet.api("GET", `/v1/endpoints/${id}/attempts`);
      items = body["items"] as Record<string, unknown>[];
      return items.length >= count;
    });
    return items;
  }
  const dataOf = ({ body }: ServiceRequest): unknown => (JSON.parse(body) as { data: unknown }).data;

  test("EP-1: a change reaches an endpoint, signed as Standard Webhooks", async () => {
    const endpoint = await receiver();
    const { id, secrets } = await create(`${endpoint.url}/hook?x=1`, { channels: ["board:one"] });
    await publish("board:one", { card: 7, exact: 1.0 });
    await eventually(() => endpoint.requests.length === 1);
    const [request] = endpoint.requests;
    if (!request) throw new Error("no request");
    expect(request.path).toBe("/hook?x=1");
    const verified = new Webhook(secrets[0] ?? "").verify(request.body, request.headers as Record<string, string>);
    expect(verified).toMatchObject({ type: "card.moved", channel: "board:one", offset: 1, data: { card: 7 } });
    expect(request.headers["tidegate-key"]).toBe("board:one");
    expect(request.headers["tidegate-sequence"]).toMatch(/^\d{20}$/);
    expect(await attemptsOf(id, 1)).toMatchObject([
      { attempt: 1, status: 200, changeId: request.headers["webhook-id"] },
    ]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("QAPI-5: deliveries to endpoints are counted together: there are too many for a label", async () => {
    const endpoints = [await receiver(), await receiver()];
    const created = await Promise.all(endpoints.map(async ({ url }) => create(url, { channels: ["board:counted"] })));
    await publish("board:counted", 1);
    await eventually(() => endpoints.every(({ requests }) => requests.length === 1));
    const counts = async (): Promise<string[]> => {
      const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
      return text.split("\n").filter((line) => line.startsWith("tidegate_queue_deliveries_total{"));
    };
    const done = 'tidegate_queue_deliveries_total{class="endpoints",service="endpoints",outcome="done"} ';
    await eventually(async () => {
      const line = (await counts()).find((each) => each.startsWith(done));
      return Number(line?.slice(done.length)) >= 2;
    });
    expect((await counts()).filter((line) => !line.includes('{class="endpoints",service="endpoints",'))).toEqual([]);
    for (const { id } of created) await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-2: changes of a key arrive in order, each once, whatever the number of channels", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { key: "/doc" });
    const items = Array.from({ length: 60 }, (_, n) => ({
      channel: `board:${n % 4}`,
      event: "card.moved",
      data: { n, doc: n % 4 },
    }));
    const answer = await fleet.api("POST", "/v1/publish/batch", items);
    expect(answer.status).toBe(200);
    await eventually(() => endpoint.requests.length >= items.length);
    const byKey = Map.groupBy(endpoint.requests, (request) => request.headers["tidegate-key"]);
    expect([...byKey.keys()].map(String).toSorted()).toEqual(["0", "1", "2", "3"]);
    for (const requests of byKey.values()) {
      const numbers = requests.map((request) => (dataOf(request) as { n: number }).n);
      expect(numbers).toEqual(numbers.toSorted((one, other) => one - other));
      const sequences = requests.map((request) => String(request.headers["tidegate-sequence"]));
      expect(sequences).toEqual(sequences.toSorted());
    }
    expect(endpoint.requests.length).toBe(items.length);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-3: an endpoint gets the channels and events that it asks for, from its creation on", async () => {
    const endpoint = await receiver();
    await publish("board:apple", 0);
    const { id } = await create(endpoint.url, { channels: ["board:a*", "board:z"], events: ["card.*", "note"] });
    await publish("board:before", 1);
    await publish("board:apple", 2);
    await publish("board:z", 3, "note");
    await publish("board:zz", 4);
    await publish("board:apple", 5, "other");
    await publish("board:apple", 6, "card.made");
    await eventually(() => endpoint.requests.length >= 3);
    expect(new Set(endpoint.requests.map(dataOf))).toEqual(new Set([2, 3, 6]));
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-4: a paused endpoint keeps its place, and a resumed one continues from there", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:pause"] });
    await publish("board:pause", 1);
    await eventually(() => endpoint.requests.length === 1);
    expect((await fleet.api("POST", `/v1/endpoints/${id}/pause`)).body["state"]).toBe("paused");
    for (const n of [2, 3, 4]) await publish("board:pause", n);
    await eventually(async () => {
      const { body } = await fleet.api("GET", `/v1/endpoints/${id}`);
      return (body["lag"] as { changes: number }).changes === 3;
    });
    expect(endpoint.requests.length).toBe(1);
    expect((await fleet.api("POST", `/v1/endpoints/${id}/resume`)).body["state"]).toBe("live");
    await publish("board:pause", 5);
    await eventually(() => endpoint.requests.length === 5);
    expect(endpoint.requests.map(dataOf)).toEqual([1, 2, 3, 4, 5]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-4: the lag of an endpoint that was moved to the start counts what the log keeps", async () => {
    await publish("board:lag", 1);
    const { id } = await create("http://127.0.0.1:1", { channels: ["board:lag"], mode: "paused" });
    const { body } = await fleet.api("POST", `/v1/endpoints/${id}/seek`, { to: "start" });
    const { changes, ms } = body["lag"] as { changes: number; ms: number };
    expect(changes).toBeGreaterThanOrEqual(1);
    // The log began after this process.
    expect(ms).toBeLessThanOrEqual(performance.now());
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-4: the lag of an endpoint that has not answered yet is the age of its oldest change", async () => {
    const endpoint = await receiver();
    const held: ServerResponse[] = [];
    endpoint.answer = (_request, response) => void held.push(response);
    const { id } = await create(endpoint.url, { channels: ["board:slow"] });
    const from = performance.now();
    for (const n of [1, 2, 3]) await publish("board:slow", n);
    const published = performance.now();
    await eventually(() => held.length === 1);
    const lag = async (): Promise<{ changes: number; ms: number }> => {
      const { body } = await fleet.api("GET", `/v1/endpoints/${id}`);
      return body["lag"] as { changes: number; ms: number };
    };
    await eventually(async () => (await lag()).changes === 3);
    await eventually(() => performance.now() - published > 100);
    const before = performance.now();
    const { ms } = await lag();
    // Clocks are read in whole milliseconds.
    expect(ms).toBeGreaterThanOrEqual(before - published - 2);
    expect(ms).toBeLessThanOrEqual(performance.now() - from + 2);
    endpoint.answer = (_request, response) => response.end();
    for (const response of held) response.end();
    await eventually(async () => (await lag()).changes === 0);
    expect(await lag()).toEqual({ changes: 0, ms: 0 });
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-4: a paused endpoint that is moved to the present has no lag", async () => {
    await publish("board:present", 1);
    const { id } = await create("http://127.0.0.1:1", { channels: ["board:*"], mode: "paused" });
    const seek = async (to: unknown): Promise<{ changes: number }> =>
      (await fleet.api("POST", `/v1/endpoints/${id}/seek`, { to })).body["lag"] as { changes: number };
    expect((await seek("start")).changes).toBeGreaterThanOrEqual(1);
    expect(await seek({ time: Date.now() + 1_000 })).toEqual({ changes: 0, ms: 0 });
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-5: everything but a 2xx is retried under the same id; 410 disables, and the change comes again", async () => {
    const endpoint = await receiver();
    let status = 400;
    endpoint.answer = (_request, response) => answerJson(response, { why: "no" }, status);
    const { id } = await create(endpoint.url, { channels: ["board:retry"] });
    await publish("board:retry", 1);
    await eventually(() => endpoint.requests.length === 1);
    status = 410;
    await eventually(() => endpoint.requests.length === 2);
    await eventually(async () => (await fleet.api("GET", `/v1/endpoints/${id}`)).body["state"] === "disabled");
    status = 200;
    await fleet.api("POST", `/v1/endpoints/${id}/resume`);
    await eventually(() => endpoint.requests.length === 3);
    const ids = new Set(endpoint.requests.map(({ headers }) => headers["webhook-id"]));
    expect(ids.size).toBe(1);
    expect(await attemptsOf(id, 3)).toMatchObject([
      { attempt: 3, status: 200 },
      { attempt: 2, status: 410 },
      { attempt: 1, status: 400, answer: '{"why":"no"}', error: "the endpoint answered 400" },
    ]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-6: an attempt that got no answer has an empty one", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:none"], timeoutMs: 100 });
    endpoint.answer = () => undefined;
    await fleet.api("POST", `/v1/endpoints/${id}/test`);
    const [attempt = {}] = await attemptsOf(id, 1);
    expect(attempt).toMatchObject({ attempt: 1, answer: "", error: expect.any(String) as string });
    expect(attempt["status"]).toBeUndefined();
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-11: a new secret signs first, and the one before until it expires; no other call shows them", async () => {
    const endpoint = await receiver();
    const own = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
    const created = await create(endpoint.url, { channels: ["board:rotate"], secrets: [own] });
    expect(created.secrets).toEqual([own]);
    const { body } = await fleet.api("POST", `/v1/endpoints/${created.id}/rotate`, { expireAfterSeconds: 600 });
    const [newest = "", before] = body["secrets"] as string[];
    expect(before).toBe(own);
    await eventually(async () => {
      await fleet.api("POST", `/v1/endpoints/${created.id}/test`);
      const request = endpoint.requests.at(-1);
      return String(request?.headers["webhook-signature"]).split(" ").length === 2;
    });
    const request = endpoint.requests.at(-1);
    for (const secret of [newest, own]) {
      const headers = request?.headers as Record<string, string>;
      expect(new Webhook(secret).verify(request?.body ?? "", headers)).toMatchObject({ type: "tidegate.test" });
    }
    const expired = await fleet.api("POST", `/v1/endpoints/${created.id}/rotate`, { expireAfterSeconds: 0 });
    expect((expired.body["secrets"] as string[]).length).toBe(1);
    const withoutBody = await fleet.api("POST", `/v1/endpoints/${created.id}/rotate`);
    expect((withoutBody.body["secrets"] as string[]).slice(1)).toEqual(expired.body["secrets"]);
    const shown = await fleet.api("GET", `/v1/endpoints/${created.id}`);
    const listed = await fleet.api("GET", "/v1/endpoints");
    expect(shown.text + listed.text + fleet.log()).not.toContain("whsec_");
    await fleet.api("DELETE", `/v1/endpoints/${created.id}`);
  });

  test("EP-12: a seek sends the past again under the same ids, in order, and drops what was queued", async () => {
    const endpoint = await receiver();
    await publish("board:seek", 0);
    const { id } = await create(endpoint.url, { channels: ["board:seek"] });
    for (const n of [1, 2, 3]) await publish("board:seek", n);
    await eventually(() => endpoint.requests.length === 3);
    const first = endpoint.requests.map(({ headers }) => headers["webhook-id"]);
    const seek = async (to: unknown): Promise<void> => {
      const answer = await fleet.api("POST", `/v1/endpoints/${id}/seek`, { to });
      expect(answer.status, answer.text).toBe(200);
    };
    await seek("start");
    await eventually(() => endpoint.requests.length === 7);
    expect(endpoint.requests.slice(3).map(dataOf)).toEqual([0, 1, 2, 3]);
    expect(endpoint.requests.slice(4).map(({ headers }) => headers["webhook-id"])).toEqual(first);
    await seek({ channel: "board:seek", offset: 3 });
    await eventually(() => endpoint.requests.length === 8);
    expect(endpoint.requests.slice(7).map(dataOf)).toEqual([3]);
    await seek("end");
    await publish("board:seek", 4);
    await eventually(() => endpoint.requests.length === 9);
    expect(endpoint.requests.slice(8).map(dataOf)).toEqual([4]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-13: a shadow is sent nothing, its ledger lists what it would be; live, it begins after the offset", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:shadow", "board:other"], mode: "shadow" });
    for (const n of [1, 2, 3]) await publish("board:shadow", n);
    await publish("board:other", 9);
    const { text } = await fleet.api("GET", `/v1/endpoints/${id}/ledger`);
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { channel: string; data: number; offset: number; key: string });
    expect(new Set(lines.map(({ data }) => data))).toEqual(new Set([1, 2, 3, 9]));
    expect(lines.find(({ data }) => data === 2)).toMatchObject({
      channel: "board:shadow",
      offset: 2,
      key: "board:shadow",
    });
    expect(endpoint.requests).toEqual([]);
    const [misspelt, twice] = [
      { channel: "board:shadwo", offset: 2 },
      { channel: "board:shadow", offset: 1 },
    ];
    const after = [{ channel: "board:shadow", offset: 2 }];
    const refused = await fleet.api("POST", `/v1/endpoints/${id}/go-live`, { after: [...after, misspelt, twice] });
    expect(refused.body["errors"], refused.text).toEqual([
      "/after: board:shadwo is none of the endpoint's channels",
      "/after: lists board:shadow twice",
    ]);
    const answer = await fleet.api("POST", `/v1/endpoints/${id}/go-live`, { after });
    expect(answer.body["state"], answer.text).toBe("live");
    await publish("board:shadow", 4);
    await publish("board:other", 10);
    await eventually(() => endpoint.requests.length === 3);
    expect(new Set(endpoint.requests.map(dataOf))).toEqual(new Set([3, 4, 10]));
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("CUT-1: a live endpoint stops at an exact position, and goes live after it: each change is sent once", async () => {
    const endpoint = await receiver();
    // Some are under way whenever the endpoint stops.
    endpoint.answer = (_request, response) => setImmediate(() => answerJson(response, {}));
    const { id } = await create(endpoint.url, { channels: ["board:stop*"] });
    let n = 0;
    const publishing = repeat(async () => {
      await publish(`board:stop${n % 5}`, n);
      n++;
    });
    await eventually(() => endpoint.requests.length > 20);
    const stopped = await fleet.api("POST", `/v1/endpoints/${id}/shadow`);
    expect(stopped.status, stopped.text).toBe(200);
    expect(stopped.body["state"]).toBe("shadow");
    const sent = endpoint.requests.map(dataOf) as number[];
    const until = n + 50;
    await eventually(() => n > until);
    // The next system reads from the position on, and has what follows it.
    const cursor = String(stopped.body["after"]);
    const following = await fleet.api("GET", `/v1/changes?channels=board:stop*&cursor=${cursor}&limit=5`);
    const first = new Set((following.body["changes"] as { data: number }[]).map(({ data }) => data));
    expect(sent.filter((each) => first.has(each))).toEqual([]);
    const again = await fleet.api("POST", `/v1/endpoints/${id}/shadow`);
    expect(again.body["after"]).toBe(cursor);
    const wasSent = await fleet.api("GET", `/v1/endpoints/${id}/ledger?sentSeconds=600`);
    const sentLines = wasSent.text.trim().split("\n");
    expect(new Set(sentLines.map((line) => (JSON.parse(line) as { data: number }).data))).toEqual(new Set(sent));
    expect(endpoint.requests.length, "requests of a shadow").toBe(sent.length);
    const live = await fleet.api("POST", `/v1/endpoints/${id}/go-live`, { after: cursor });
    expect(live.body["state"], live.text).toBe("live");
    await publishing.stop();
    await eventually(() => endpoint.requests.length >= n);
    const all = endpoint.requests.map(dataOf) as number[];
    expect(all.toSorted((one, other) => one - other)).toEqual(Array.from({ length: n }, (_, at) => at));
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("CUT-1: a PATCH to shadow waits for what is queued, and is refused where that is paused", async () => {
    const endpoint = await receiver();
    const path = `/v1/endpoints/${(await create(endpoint.url, { channels: ["board:patch"] })).id}`;
    const release = Promise.withResolvers<void>();
    endpoint.answer = (_request, response) => void release.promise.then(() => answerJson(response, {}));
    for (const n of [1, 2, 3]) await publish("board:patch", n);
    await eventually(() => endpoint.requests.length === 1);
    await fleet.api("POST", `${path}/pause`);
    expect(await fleet.api("PATCH", path, { mode: "shadow" })).toMatchObject({
      status: 409,
      body: { code: "conflict" },
    });
    await fleet.api("POST", `${path}/resume`);
    expect((await fleet.api("PATCH", path, { mode: "shadow", url: "ftp://example.com" })).status).toBe(400);
    expect((await fleet.api("GET", path)).body["stopping"]).toBeUndefined();
    const patching = fleet.api("PATCH", path, { mode: "shadow", description: "moved" });
    await eventually(async () => (await fleet.api("GET", path)).body["stopping"] === true);
    release.resolve();
    expect((await patching).body).toMatchObject({ state: "shadow", description: "moved" });
    const sent = endpoint.requests.map(dataOf);
    await publish("board:patch", 4);
    const { text } = await fleet.api("GET", `${path}/ledger`);
    const lines = text.trim().split("\n");
    expect([...sent, ...lines.map((line) => (JSON.parse(line) as { data: number }).data)]).toEqual([1, 2, 3, 4]);
    await fleet.api("DELETE", path);
    const idle = await create(endpoint.url, { channels: ["board:idle"], mode: "paused" });
    const idlePath = `/v1/endpoints/${idle.id}`;
    expect((await fleet.api("PATCH", idlePath, { mode: "shadow" })).body["state"]).toBe("shadow");
    await fleet.api("DELETE", idlePath);
  });

  test("CUT-3: the ledger of a shadow comes in pages, which together are all of it", async () => {
    const { id } = await create("http://127.0.0.1:1", { channels: ["board:page*"], mode: "shadow" });
    for (let n = 0; n < 12; n++) await publish(`board:page${n % 3}`, n);
    const whole = await fleet.api("GET", `/v1/endpoints/${id}/ledger`);
    let pages = "";
    for (let after = ""; ;) {
      const { text } = await fleet.api("GET", `/v1/endpoints/${id}/ledger?limit=5${after}`);
      const lines = text.trimEnd().split("\n");
      const { next } = JSON.parse(lines.at(-1) ?? "{}") as { next?: string };
      pages += lines.slice(0, next === undefined ? undefined : -1).join("\n") + "\n";
      if (next === undefined) break;
      after = `&after=${next}`;
    }
    expect(pages).toBe(whole.text);
    expect(whole.text.trim().split("\n").length).toBe(12);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("CUT-2: a shadow goes live after what another system sent, and unlisted channels with its ledger", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:cut*"], mode: "shadow" });
    for (let n = 0; n < 12; n++) await publish(`board:cut${n % 3}`, n);
    const listed = await fleet.api("GET", `/v1/endpoints?state=shadow&percent=100`);
    expect((listed.body["items"] as { id: string }[]).map((item) => item.id)).toContain(id);
    // The other system has sent 0 and 3 of the first channel, 1 of the second, nothing of the third.
    const live = await fleet.api("POST", `/v1/endpoints/${id}/go-live`, {
      ...{
        after: [
          { channel: "board:cut0", offset: 2 },
          { channel: "board:cut1", offset: 1 },
        ],
        others: "ledger",
      },
    });
    expect(live.body["state"], live.text).toBe("live");
    await publish("board:cut9", 12);
    await eventually(() => endpoint.requests.length >= 10);
    const all = endpoint.requests.map(dataOf) as number[];
    expect(all.toSorted((one, other) => one - other)).toEqual([2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-12: an endpoint moved to the cursor of another channel gets only what follows", async () => {
    const channels = Array.from({ length: 8 }, (_, n) => `board:moved${n}`);
    const publishToAll = async (data: unknown): Promise<void> => {
      for (const channel of channels) await publish(channel, data);
    };
    await publishToAll("before");
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:moved*"] });
    const end = await fleet.api("GET", "/v1/changes?channels=board:movedOther&cursor=end");
    await publish(channels[0] ?? "", "between");
    await eventually(() => endpoint.requests.length === 1);
    const moved = await fleet.api("POST", `/v1/endpoints/${id}/seek`, { to: end.body["cursor"] });
    expect(moved.status, moved.text).toBe(200);
    await publishToAll("after");
    const isLast = (request: ServiceRequest): boolean => dataOf(request) === "after";
    await eventually(() => endpoint.requests.filter(isLast).length === channels.length);
    const earlier = endpoint.requests.filter((request) => !isLast(request)).map(dataOf);
    expect(earlier).toEqual(["between", "between"]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-12: a position that is none is refused, with what is wrong", async () => {
    const { id } = await create("http://127.0.0.1:1", { mode: "shadow" });
    const refused = async (call: string, body: object): Promise<unknown> => {
      const answer = await fleet.api("POST", `/v1/endpoints/${id}/${call}`, body);
      expect(answer.status, answer.text).toBe(400);
      return answer.body["errors"];
    };
    expect(await refused("seek", { to: "noon" })).toEqual([expect.stringMatching(/^\/to: .*cursor/)]);
    expect(await refused("go-live", { after: "noon" })).toEqual([expect.stringMatching(/^\/after: .*cursor/)]);
    expect(await refused("seek", { to: { time: Date.now() + 3_600_000 } })).toEqual([
      expect.stringContaining("/to/time: is in the future"),
    ]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("CUT-2: a go-live takes the offsets of 1,000 channels", async () => {
    const endpoint = await receiver();
    const { id } = await create(endpoint.url, { channels: ["board:card-*"], mode: "shadow" });
    const after = Array.from({ length: 1_000 }, (_, n) => ({ channel: `board:card-${n}`, offset: n }));
    const goLive = async (offsets: object[]): ReturnType<typeof fleet.api> =>
      fleet.api("POST", `/v1/endpoints/${id}/go-live`, { after: offsets, others: "ledger" });
    expect((await goLive([...after, { channel: "board:card-more", offset: 1 }])).status).toBe(400);
    // Nothing was published at that time.
    expect((await goLive(after.map((each) => ({ ...each, at: 1_700_000_000_000 })))).status).toBe(409);
    const live = await goLive(after);
    expect([live.status, live.body["state"]]).toEqual([200, "live"]);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  });

  test("EP-14: a bad endpoint is refused with every finding", async () => {
    const refused = async (more: object): Promise<string[]> => {
      const answer = await fleet.api("POST", "/v1/endpoints", {
        url: "https://example.com",
        channels: ["board:*"],
        ...more,
      });
      expect(answer.status, answer.text).toBe(400);
      return answer.body["errors"] as string[];
    };
    expect(await refused({ url: "https://ada:secret@example.com/" })).toEqual([
      expect.stringContaining("user and password"),
    ]);
    for (const url of ["ftp://example.com", "http:example.com", "http:///example.com", "http://exa mple.com"]) {
      expect(await refused({ url }), url).toEqual([expect.stringContaining("http or https")]);
    }
    const long = "a".repeat(63);
    for (const host of ["a..b", `${long}a.com`, "..", `${long}.${long}.${long}.${long}`]) {
      expect(await refused({ url: `http://${host}/` }), host).toEqual([expect.stringContaining("1 to 63")]);
    }
    expect(await refused({ url: "https://example.com:0/" })).toEqual([expect.stringContaining("port")]);
    expect(await refused({ url: "http://10.0.0.1/" })).toEqual([expect.stringContaining("is private")]);
    expect(await refused({ url: "http://[::ffff:10.0.0.1]/" })).toEqual([expect.stringContaining("IPv4-mapped")]);
    expect(await refused({ url: "http://0xa9fea9fe/" })).toEqual([expect.stringContaining("link-local")]);
    expect(await refused({ url: "http://ada@10.0.0.1/" })).toHaveLength(2);
    // URLs have no zones.
    expect(await refused({ url: "http://[fe80::1%25eth0]/" })).toHaveLength(1);
    expect(await refused({ secrets: ["short"], headers: { "webhook-id": "x", "b ad": "y" } })).toHaveLength(3);
    expect((await refused({ channels: ["Board"], key: "docs", timeoutMs: 5 })).length).toBe(3);
    expect((await refused({ colour: "red" })).length).toBe(1);
    expect(await refused({ headers: { "X-Note": "a", "x-note": "b", "proxy-connection": "close" } })).toEqual([
      expect.stringContaining("/headers/x-note: is given twice"),
      expect.stringContaining("/headers/proxy-connection: is set by Tidegate"),
    ]);
    // What the schema finds, and what only a look at the values finds.
    const all = { url: "ftp://x", timeoutMs: 5, key: "docs", secrets: ["short"], headers: { host: "x" } };
    expect(await refused(all)).toHaveLength(5);
    expect(await refused({ url: 5, secrets: "short", headers: { a: 1 } })).toHaveLength(3);
    expect(await refused({ timeoutMs: 5, headers: { host: "x", a: "\n" } })).toHaveLength(3);
    for (const headers of [null, [], "x"]) expect((await refused({ headers })).length).toBe(1);
    expect(await refused({ headers: { authorization: "***", "x-note": "***" } })).toEqual([
      expect.stringContaining("/headers/authorization: is the mask"),
    ]);
    const names = Array.from({ length: 40 }, (_, n) => `n${n}`);
    const pairs = { channels: names.map((name) => `board:${name}`), events: names };
    expect(await refused(pairs)).toEqual([expect.stringContaining("at most 1000")]);
    expect(await refused({ ...pairs, timeoutMs: 5 })).toHaveLength(2);
    expect(await refused({ tenant: "t".repeat(257) })).toHaveLength(1);
    // As long as that of a token may be.
    const { id } = await create("http://127.0.0.1:1", { tenant: "t".repeat(256) });
    const patch = await fleet.api("PATCH", `/v1/endpoints/${id}`, {
      ...{ timeoutMs: 5, url: "ftp://x", secrets: ["short"] },
    });
    expect([patch.status, (patch.body["errors"] as string[]).length]).toEqual([400, 3]);
    expect((await fleet.api("POST", "/v1/endpoints")).status).toBe(400);
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
    const unknown = await fleet.api("GET", "/v1/endpoints/ep_none");
    expect(unknown).toMatchObject({ status: 404, body: { code: "not_found" } });
    const other = await fleet.api("GET", "/v1/endpoints", undefined, { token: "reader-token-of-the-test" });
    expect(other).toMatchObject({ status: 403, body: { code: "missing_scope" } });
  });
});

test("SSRF-8: a refused address is an attempt with its reason, and the log has it", async () => {
  const fleet = await startFleet({ rules });
  const endpoint = await startService();
  try {
    const url = endpoint.url.replace("127.0.0.1", "localhost");
    const { body } = await fleet.api("POST", "/v1/endpoints", { url, channels: ["board:*"] });
    await fleet.api("POST", "/v1/publish", { channel: "board:1", event: "x", data: 1 });
    const error = expect.stringMatching(/^(127\.0\.0\.1|::1) is loopback/) as unknown;
    await eventually(async () => {
      const attempts = await fleet.api("GET", `/v1/endpoints/${String(body["id"])}/attempts`);
      const [attempt] = attempts.body["items"] as unknown[];
      if (attempt !== undefined) expect(attempt).toMatchObject({ attempt: 1, error });
      return attempt !== undefined;
    });
    expect(fleet.log()).toContain("is loopback");
    expect(endpoint.requests).toEqual([]);
  } finally {
    await fleet.stop();
    await endpoint.stop();
  }
});
