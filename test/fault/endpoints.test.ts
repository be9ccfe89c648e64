/** Webhooks out while endpoints, private APIs and Redis fail. */
import { afterEach, expect, test } from "vitest";
import { ChangeReader } from "../../private-api/endpoints/change-reader.ts";
import { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import { endpointService } from "../../shared/endpoints/endpoint.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { spawnPrivateApi } from "../support/private-api-process.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { freePort, type Spawned } from "../support/processes.ts";
import { noTables } from "../support/table-rows.ts";

const rules = { namespaces: { board: { changes: true } } };
const allowed = { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" };
/** A batch of the API has at most so many items. */
const batchSize = 1_000;

const begun: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

async function begin<Begun extends { stop(): Promise<unknown> }>(beginning: Promise<Begun>): Promise<Begun> {
  const each = await beginning;
  begun.push(each);
  return each;
}

interface Numbered {
  key: string;
  n: number;
}

function numbered({ body }: ServiceRequest): Numbered {
  return (JSON.parse(body) as { data: Numbered }).data;
}

/** Of each key, numbers and offsets in the order of first arrival; repeats are left out. */
function firstArrivals(requests: readonly ServiceRequest[]): Map<string, Map<number, number>> {
  const seen = new Map<string, Map<number, number>>();
  for (const { body } of requests) {
    const { offset, data } = JSON.parse(body) as { offset: number; data: Numbered };
    const own = seen.get(data.key) ?? new Map<number, number>();
    seen.set(data.key, own);
    if (!own.has(data.n)) own.set(data.n, offset);
  }
  return seen;
}

function expectEverything(requests: readonly ServiceRequest[], count: number, keys: number): void {
  const arrivals = firstArrivals(requests);
  for (let key = 0; key < keys; key++) {
    const expected = Array.from({ length: count }, (_, n) => n).filter((n) => n % keys === key);
    const own = arrivals.get(`k${key}`) ?? new Map<number, number>();
    expect([...own.keys()].toSorted((one, other) => one - other)).toEqual(expected);
    // Of a batch that was refused in part, the publisher publishes some after those that follow them.
    const offsets = [...own.values()];
    expect(offsets).toEqual(offsets.toSorted((one, other) => one - other));
  }
}

async function publish(fleet: Fleet, from: number, to: number, keys: number): Promise<void> {
  for (let at = from; at < to; at += batchSize) {
    const items = Array.from({ length: Math.min(batchSize, to - at) }, (_, index) => {
      const n = at + index;
      return { channel: `board:${n % keys}`, event: "moved", data: { key: `k${n % keys}`, n }, id: `n${n}` };
    });
    let left = items;
    // Refused ones are published again, in their order; those that were published after all have their ids.
    while (left.length > 0) {
      const answer = await fleet.api("POST", "/v1/publish/batch", left);
      const answers = (answer.status === 200 ? JSON.parse(answer.text) : []) as { error?: object }[];
      const firstRefused = answers.findIndex(({ error }) => error);
      left = answers.length === 0 ? left : firstRefused < 0 ? [] : left.slice(firstRefused);
    }
  }
}

async function create(fleet: Fleet, service: HttpService, more: object = {}): Promise<string> {
  const answer = await fleet.api("POST", "/v1/endpoints", {
    url: service.url,
    channels: ["board:*"],
    key: "/key",
    ...more,
  });
  expect(answer.status, answer.text).toBe(201);
  return String(answer.body["id"]);
}

test("EP-15: an endpoint that was down gets all that passed, in order per key, and the others did not wait", async () => {
  const redis = await begin(startRedis());
  const fleet = await begin(
    startFleet({ target: { kind: "standalone", url: redis.url }, rules, environment: allowed }),
  );
  const live = await begin(startService());
  // Nobody else gets the port while the service is down.
  const port = await freePort();
  const down = await startService({ port });
  const id = await create(fleet, down);
  await create(fleet, live);
  await down.stop();
  const count = 2_800;
  await publish(fleet, 0, count, 28);
  await eventually(() => live.requests.length >= count, 120_000);
  expectEverything(live.requests, count, 28);
  // Its failures are noted beside the deliveries to the others.
  await eventually(async () => "failingSince" in (await fleet.api("GET", `/v1/endpoints/${id}`)).body);
  const state = await fleet.api("GET", `/v1/endpoints/${id}`);
  expect(state.body).toMatchObject({ state: "live" });
  expect((state.body["lag"] as { changes: number }).changes).toBeGreaterThan(0);
  const back = await begin(startService({ port }));
  await publish(fleet, count, count + 56, 28);
  await eventually(() => new Set(back.requests.map((request) => numbered(request).n)).size >= count + 56, 120_000);
  expectEverything(back.requests, count + 56, 28);
  expect(back.requests.length).toBe(count + 56);
  await eventually(async () => {
    const { body } = await fleet.api("GET", `/v1/endpoints/${id}`);
    return (body["lag"] as { changes: number }).changes === 0 && body["failingSince"] === undefined;
  });
}, 400_000);

test("EP-16: endpoints that are dead, or never answer, do not delay the others", async () => {
  const redis = await begin(startRedis());
  const fleet = await begin(
    startFleet({ target: { kind: "standalone", url: redis.url }, rules, environment: allowed }),
  );
  const live = await begin(startService());
  const dead = await startService({ port: await freePort() });
  await dead.stop();
  const silent = await begin(startService());
  let ended = 0;
  silent.answer = (_request, response) => void response.once("close", () => ended++);
  const failing = await begin(startService());
  failing.answer = (_request, response) => answerJson(response, {}, 500);
  for (const service of [dead, silent, failing]) {
    for (let n = 0; n < 5; n++) await create(fleet, service, { timeoutMs: 60_000 });
  }
  await create(fleet, live);
  await publish(fleet, 0, 406, 7);
  await eventually(() => live.requests.length >= 406);
  expectEverything(live.requests, 406, 7);
  // Nothing waited for their minute to end.
  expect(silent.requests.length).toBeGreaterThan(0);
  expect(ended).toBe(0);
});

/** Readers of one Redis, each with its own way to queue. */
interface Readers {
  stores(): Promise<Stores>;
  begin(stores: Stores, enqueue: Stores["queues"]["enqueue"]): Promise<ChangeReader>;
  publish(stores: Stores, count: number): Promise<void>;
}

function readersOf(redis: RedisServer): Readers {
  return {
    stores: async () => {
      const created = createStores({ kind: "standalone", url: redis.url }, quietLogger);
      await created.start();
      begun.push(created);
      return created;
    },
    begin: async ({ changeLog, endpointStore, queues }, enqueue) => {
      const current = new CurrentEndpoints({ store: endpointStore, errors: quietErrors, logger: quietLogger });
      await current.start();
      begun.push(current);
      const reader = new ChangeReader({
        tables: noTables,
        ...{ log: changeLog, current, errors: quietErrors, logger: quietLogger },
        queues: {
          enqueue,
          histories: async () => queues.histories(),
          waitingOfSource: async (source) => queues.waitingOfSource(source),
        },
        readers: async () => 1,
      });
      await reader.start();
      return reader;
    },
    publish: async ({ broker }, count) => {
      for (let n = 0; n < count; n++) {
        await broker.publish({
          ...{
            channel: "board:1",
            event: "moved",
            data: String(n),
            retention: { historySize: 10, historySeconds: 60 },
          },
          changes: { maxBytes: 1e6, maxSeconds: 600, unclaimedSeconds: 600 },
        });
      }
    },
  };
}

/** Nobody delivers to it. */
const queuedOnly = {
  ...{ id: "ep_test", url: "http://127.0.0.1:1/", channels: ["board:*"], events: ["*"], mode: "live" as const },
  ...{ key: "channel", secrets: [], headers: {}, timeoutMs: 1, maxInFlight: 1 },
};

test("EP-17: what a reader has queued before it was killed is not queued again by the next one", async () => {
  const readers = readersOf(await begin(startRedis()));
  const [own, other] = [await readers.stores(), await readers.stores()];
  const queued: NewItem[] = [];
  await own.endpointStore.create(queuedOnly);
  // It stores four items, and gets no further: as if it were killed there.
  let asked = 0;
  let stored = 0;
  await readers.begin(own, async (item, after) => {
    if (++asked > 4) return new Promise(() => undefined);
    queued.push(item);
    const outcome = await own.queues.enqueue(item, after);
    stored++;
    return outcome;
  });
  await readers.publish(own, 10);
  // None of the four is under way any more.
  await eventually(() => asked > 4 && stored === 4);
  await own.stop();
  begun.push(
    await readers.begin(other, async (item, after) => {
      const outcome = await other.queues.enqueue(item, after);
      if (outcome.kind === "stored") queued.push(item);
      return outcome;
    }),
  );
  await eventually(() => queued.length >= 10);
  expect(queued.map(({ data }) => (JSON.parse(data) as { data: number }).data)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(await other.queues.waitingOfSource(endpointService(queuedOnly.id))).toBe(10);
  await eventually(async () => {
    return (await other.changeLog.cursors(everySlot, "endpoints")).some(({ place }) => place !== "0-0");
  });
});

test("EP-17: a reader that takes over before a place is stored queues nothing twice", async () => {
  const readers = readersOf(await begin(startRedis()));
  const [own, other] = [await readers.stores(), await readers.stores()];
  await own.endpointStore.create(queuedOnly);
  // In a cluster a place is stored seconds after it was reached.
  own.changeLog.saveCursors = async (changes) => changes.map(() => true);
  let queued = 0;
  const first = await readers.begin(own, async (item, after) => {
    const outcome = await own.queues.enqueue(item, after);
    queued++;
    return outcome;
  });
  await readers.publish(own, 10);
  await eventually(() => queued === 10);
  // It gives its leases up.
  await first.stop();
  const again: string[] = [];
  begun.push(
    await readers.begin(other, async (item, after) => {
      const outcome = await other.queues.enqueue(item, after);
      again.push(outcome.kind);
      return outcome;
    }),
  );
  await eventually(() => again.length >= 10);
  expect(again).toEqual(Array.from({ length: 10 }, () => "duplicate"));
  expect(await other.queues.waitingOfSource(endpointService(queuedOnly.id))).toBe(10);
});

test("EP-18: private APIs that are killed, and a Redis that restarts, lose nothing and keep each key in order", async () => {
  const redis: RedisServer = await begin(startRedis({ appendOnly: true }));
  // The API that takes publishes delivers nothing.
  const environment = { ...allowed, DISPATCH_CONCURRENCY: "0" };
  const fleet = await begin(startFleet({ target: { kind: "standalone", url: redis.url }, rules, environment }));
  const endpoint = await begin(startService());
  await create(fleet, endpoint);
  const workers: Spawned[] = [];
  begun.push({
    stop: async () => {
      for (const worker of workers) worker.kill("SIGKILL");
      await Promise.all(workers.map(({ exited }) => exited));
    },
  });
  const spawn = async (): Promise<Spawned> =>
    (await spawnPrivateApi({ REDIS_URL: redis.url, ...allowed }, workers)).process;
  let [one, two] = await Promise.all([spawn(), spawn()]);
  let count = 0;
  const more = async (): Promise<void> => {
    await publish(fleet, count, count + 210, 7);
    count += 210;
  };
  await more();
  one.kill("SIGKILL");
  await more();
  one = await spawn();
  await more();
  two.kill("SIGKILL");
  two = await spawn();
  await redis.kill();
  await redis.restart();
  await more();
  await eventually(() => new Set(endpoint.requests.map((request) => numbered(request).n)).size >= count, 90_000);
  expectEverything(endpoint.requests, count, 7);
}, 240_000);
