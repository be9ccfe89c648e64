/** The change log over HTTP: in memory, and on Redis with two private APIs. */
import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { slotOf } from "../../shared/redis/slots.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { type LonePrivateApi, startPrivateApi } from "../support/private-api.ts";
import { askForChanges, changesOf, isGap, pull, pullAll, type PulledChange } from "../support/change-puller.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const rules = {
  namespaces: { board: { changes: true, historySize: 0 }, chat: { changes: true }, plain: {} },
};

describe.each(["memory", "Redis"])("changes: %s", (store) => {
  let redis: RedisServer | undefined;
  let fleet: Fleet;
  let second: LonePrivateApi | undefined;
  /** Where to ask in turn. */
  let apis: string[];

  beforeAll(async () => {
    redis = store === "Redis" ? await startRedis() : undefined;
    const target = redis && ({ kind: "standalone", url: redis.url } as const);
    fleet = await startFleet({ ...(target && { target }), rules });
    second = target && (await startPrivateApi(target));
    apis = [fleet.apiUrl, ...(second ? [second.url] : [])];
  });
  afterEach(closeClients);
  afterAll(async () => {
    await second?.stop();
    await fleet.stop();
    await redis?.stop();
  });

  function newChannel(namespace = "board"): string {
    return `${namespace}:${randomUUID()}`;
  }
  async function publish(channel: string, data: string, more = ""): Promise<void> {
    const text = `{"channel":"${channel}","event":"moved","data":${data}${more}}`;
    const answer = await fleet.api("POST", "/v1/publish", undefined, { text });
    expect(answer.status, answer.text).toBe(200);
  }
  const lastApi = (): string => apis.at(-1) ?? "";

  test("CHG-1: a pull gives what was published, as its author wrote it, and nothing else", async () => {
    const channel = newChannel();
    const exact = '{"n":9007199254740993,"x":1e999,"s":"\\ud800 ✓","n":1}';
    await publish(channel, exact, ',"id":"a"');
    await publish(channel, exact, ',"id":"a"');
    await publish(channel, "1", ',"history":false');
    await publish(channel.replace("board", "plain"), "1");
    const answer = await (await askForChanges(lastApi(), { channels: `${channel},plain:*` })).text();
    const [found] = (JSON.parse(answer) as { changes: PulledChange[] }).changes;
    expect(found).toMatchObject({ channel, offset: 1, event: "moved" });
    expect(Object.keys(found ?? {})).toEqual(["channel", "epoch", "offset", "event", "at", "data"]);
    expect(answer).toContain(`"data":${exact}}],`);
  });

  test("CHG-2: a pull has the sequence that a follower on a socket sees", async () => {
    const channels = [newChannel("chat"), newChannel("chat"), newChannel("chat")];
    const client = await connectClient(fleet.urls[0] ?? "", { channels: ["chat:*"] });
    for (const channel of channels) await client.subscribe(channel);
    await Promise.all(Array.from({ length: 90 }, async (_, n) => publish(channels[n % 3] ?? "", String(n))));
    await eventually(() => client.received.length >= 90);
    const { changes } = await pullAll(apis, { channels: channels.join(","), limit: 20 });
    for (const channel of channels) {
      const seen = client.received
        .filter(({ meta }) => (meta as { channel?: string } | undefined)?.channel === channel)
        .map(({ event, data, meta }) => [event, data, (meta as { offset: number }).offset]);
      expect(seen).toHaveLength(30);
      expect(changesOf(changes, channel).map(({ event, data, offset }) => [event, data, offset])).toEqual(seen);
    }
  });

  test("CHG-6: cursors continue on every private API, from the oldest change, the end or a time", async () => {
    const channels = `${newChannel()},${newChannel()}`;
    const [one = "", two = ""] = channels.split(",");
    await publish(one, "1");
    const begun = await pull(lastApi(), { channels });
    const atEnd = await pull(fleet.apiUrl, { channels, cursor: "end" });
    expect(atEnd.changes).toEqual([]);
    await eventually(() => Date.now() > (begun.changes[0] as PulledChange).at);
    for (const data of ["2", "3"]) for (const channel of [one, two]) await publish(channel, data);
    const dataOf = (changes: (typeof begun)["changes"]): unknown[] => [
      changesOf(changes, one).map(({ data }) => data),
      changesOf(changes, two).map(({ data }) => data),
    ];
    for (const cursor of [begun.cursor, atEnd.cursor]) {
      const later = await pullAll(apis, { channels, cursor, limit: 1 });
      expect(dataOf(later.changes)).toEqual([
        [2, 3],
        [2, 3],
      ]);
    }
    const all = await pullAll(apis, { channels });
    expect((await pullAll(apis, { channels, cursor: "start" })).changes).toEqual(all.changes);
    const since = changesOf(all.changes, one)[1]?.at ?? 0;
    expect(dataOf((await pullAll(apis, { channels, cursor: `time:${since}` })).changes)).toEqual([
      [2, 3],
      [2, 3],
    ]);
    expect((await pull(lastApi(), { channels, cursor: all.cursor })).changes).toEqual([]);
    // The cursor of one list of channels serves another one.
    const other = newChannel();
    await publish(other, "4");
    expect(changesOf((await pull(lastApi(), { channels: other, cursor: atEnd.cursor })).changes, other)).toHaveLength(
      1,
    );
  });

  test("CHG-7: names and prefixes choose channels", async () => {
    const marked = randomUUID();
    const [one, two, other] = [`board:${marked}/1`, `board:${marked}/2`, newChannel()];
    for (const channel of [one, two, other]) await publish(channel, "1");
    const channelsOf = async (channels: string): Promise<string[]> =>
      (await pullAll(apis, { channels })).changes.map((item) => (isGap(item) ? "gap" : item.channel)).sort();
    expect(await channelsOf(`board:${marked}/*`)).toEqual([one, two]);
    expect(await channelsOf(`${other},board:${marked}/2`)).toEqual([two, other].sort());
    expect((await channelsOf("*")).filter((channel) => channel.includes(marked))).toEqual([one, two]);
  });

  test("CHG-8: a bad query or cursor is refused with every finding", async () => {
    const { cursor } = await pull(lastApi());
    const flipped = cursor.replace(/^./, (first) => (first === "A" ? "B" : "A"));
    const bad: Record<string, string | number>[] = [
      ...["x", "", "time:", "time:-1", "time:1.5", `time:${2 ** 60}`, flipped, cursor.slice(0, -1), `${cursor}A`].map(
        (given) => ({ cursor: given }),
      ),
      ...[0, 1_001, "1.5", "x"].map((limit) => ({ limit })),
      ...[-1, 60_001].map((waitMs) => ({ waitMs })),
      ...["", "board", "board:*:x", "Board:*", "board:a,,", "board:é", `${"b".repeat(33)}*`].map((channels) => ({
        channels,
      })),
      { channels: Array.from({ length: 101 }, (_, n) => `board:${n}`).join(",") },
      { unknown: 1 },
    ];
    for (const query of bad) {
      const answer = await askForChanges(lastApi(), query);
      const problem = (await answer.json()) as { code: string };
      expect([answer.status, problem.code], JSON.stringify(query)).toEqual([400, "invalid_request"]);
    }
    const all = (await (await askForChanges(lastApi(), { channels: "a,b", cursor: "x" })).json()) as {
      errors: string[];
    };
    expect(all.errors).toHaveLength(3);
    expect((await askForChanges(lastApi(), {}, { headers: {} })).status).toBe(401);
  });

  test("CHG-9: a pull waits for the first change of its channels, published through any private API", async () => {
    const channel = newChannel();
    const { cursor } = await pull(lastApi(), { channels: channel });
    const waiting = pull(lastApi(), { channels: channel, cursor, waitMs: 60_000 });
    const elsewhere = newChannel();
    const others = pull(lastApi(), { channels: elsewhere, waitMs: 60_000 });
    const metrics = async (): Promise<string> => (await fetch(`${lastApi()}/metrics`)).text();
    await eventually(async () => (await metrics()).includes("tidegate_change_pulls_waiting 2"));
    await publish(channel, "7");
    expect((await waiting).changes).toMatchObject([{ channel, data: 7 }]);
    await eventually(async () => (await metrics()).includes("tidegate_change_pulls_waiting 1"));
    await publish(elsewhere, "8");
    expect((await others).changes).toMatchObject([{ channel: elsewhere, data: 8 }]);
    expect((await pull(lastApi(), { channels: newChannel(), waitMs: 300 })).changes).toEqual([]);
    const ended = await pull(lastApi(), { channels: channel, cursor, waitMs: 60_000 });
    expect(ended.changes).toHaveLength(1);
    const gone = new AbortController();
    const aborted = askForChanges(lastApi(), { channels: newChannel(), waitMs: 60_000 }, { signal: gone.signal }).catch(
      () => "gone",
    );
    gone.abort();
    expect(await aborted).toBe("gone");
    await eventually(async () => (await metrics()).includes("tidegate_change_pulls_waiting 0"));
  });

  test("CHG-10: an answer ends at its limit or 512 KiB, and slots take turns", async () => {
    const busy = newChannel();
    let quiet = newChannel();
    while (slotOf(quiet) === slotOf(busy)) quiet = newChannel();
    for (let n = 0; n < 12; n++) await publish(busy, `"${"x".repeat(60_000)}"`);
    await publish(quiet, "1");
    const channels = `${busy},${quiet}`;
    const first = await pull(lastApi(), { channels, limit: 2 });
    const second = await pull(lastApi(), { channels, limit: 2, cursor: first.cursor });
    expect(first.changes).toHaveLength(2);
    expect(changesOf([...first.changes, ...second.changes], quiet)).toHaveLength(1);
    const large = await pull(lastApi(), { channels: busy });
    expect(large.changes).toHaveLength(8);
    expect((await pullAll(apis, { channels: busy })).changes).toHaveLength(12);
  });

  test("CHG-14: metrics show the size and the age of the log", async () => {
    await publish(newChannel(), "1");
    const text = await (await fetch(`${lastApi()}/metrics`)).text();
    for (const name of ["changes_bytes", "changes", "changes_oldest_seconds"]) {
      expect(Number(new RegExp(`^tidegate_${name} (.+)$`, "m").exec(text)?.[1])).toBeGreaterThan(0);
    }
  });
});

test("CHG-4: a pull that is past CHANGES_MAX_BYTES gets a gap, then what is kept", async () => {
  const fleet = await startFleet({ gateways: 0, rules, environment: { CHANGES_MAX_BYTES: "20000" } });
  const channel = "board:small";
  const publish = async (): Promise<unknown> =>
    fleet.api("POST", "/v1/publish", { channel, event: "moved", data: "x".repeat(1_000) });
  await publish();
  const begun = await pull(fleet.apiUrl);
  for (let n = 0; n < 40; n++) await publish();
  for (const [channels, of] of [
    ["*", {}],
    ["board:*", {}],
    [`${channel},chat:1`, { channel }],
  ] as const) {
    const late = await pull(fleet.apiUrl, { channels, cursor: begun.cursor });
    const [gap, ...kept] = late.changes;
    expect(gap).toEqual({ gap: { ...of, from: expect.any(Number), to: expect.any(Number) } });
    expect(kept.length).toBeGreaterThan(10);
    expect(kept.length).toBeLessThan(20);
    expect((kept.at(-1) as PulledChange).offset).toBe(41);
    expect((await pull(fleet.apiUrl, { channels, cursor: late.cursor })).changes).toEqual([]);
  }
  await fleet.stop();
});

test("CHG-9: a private API that stops answers pulls that wait before it waits for services", async () => {
  const service = await startService();
  let answerService = (): void => undefined;
  service.answer = (_request, response) => {
    answerService = () => answerJson(response, {});
  };
  const fleet = await startFleet({
    rules: {
      services: { slow: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "slow", service: "slow", path: "/", mode: "call" }],
    },
  });
  const client = await connectClient(fleet.urls[0] ?? "");
  const calling = client.request("slow", {});
  await eventually(() => service.requests.length === 1);
  const waiting = pull(fleet.apiUrl, { channels: "board:1", waitMs: 60_000 });
  await eventually(async () => (await (await fetch(`${fleet.apiUrl}/metrics`)).text()).includes("pulls_waiting 1"));
  let isAnswered = false;
  const stopping = fleet.privateApi.stop();
  const called = calling.then(() => (isAnswered = true));
  expect((await waiting).changes).toEqual([]);
  expect(isAnswered, "the call").toBe(false);
  answerService();
  await Promise.all([stopping, called]);
  closeClients();
  await fleet.stop();
  await service.stop();
});

test("CHG-9: a private API that stops answers pulls that wait", async () => {
  const api = await startPrivateApi(undefined);
  const waiting = pull(api.url, { channels: "board:1", waitMs: 60_000 });
  await eventually(async () => (await (await fetch(`${api.url}/metrics`)).text()).includes("pulls_waiting 1"));
  await api.stop();
  expect((await waiting).changes).toEqual([]);
});
