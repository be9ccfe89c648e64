/** The tests of every EndpointStore and every AttemptLog. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AttemptLog, type EndpointStore, keptAttempts } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { MemoryAttemptLog } from "../../shared/endpoints/memory-attempts.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import { RedisAttemptLog } from "../../shared/endpoints/redis-attempts.ts";
import { RedisEndpointStore } from "../../shared/endpoints/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
const opened: RedisConnections[] = [];
beforeAll(async () => {
  [redis, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(async () => {
  for (const connection of opened) await connection.stop();
  await Promise.all([redis.stop(), cluster.stop()]);
});

interface Stores {
  writer: EndpointStore;
  reader: EndpointStore;
  attempts: AttemptLog;
}

async function cellsOn(target: RedisTarget): Promise<Cells> {
  const connection = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  opened.push(connection);
  await connection.start();
  return new Cells(connection);
}

async function storesOn(target: () => RedisTarget): Promise<Stores> {
  const cells = await cellsOn(target());
  const reader = new RedisEndpointStore(await cellsOn(target()));
  const writer = new RedisEndpointStore(cells);
  await Promise.all([reader.start(), writer.start()]);
  return { writer, reader, attempts: new RedisAttemptLog(cells) };
}

const inMemory = new MemoryEndpointStore();
const implementations: [string, () => Promise<Stores>][] = [
  ["memory", async () => ({ writer: inMemory, reader: inMemory, attempts: new MemoryAttemptLog() })],
  ["Redis", async () => storesOn(() => ({ kind: "standalone", url: redis.url }))],
  ["Redis Cluster", async () => storesOn(() => cluster.target)],
];

function endpoint(more: Partial<Endpoint> = {}): Endpoint {
  return {
    id: `ep_${randomUUID()}`,
    url: "https://example.com/",
    channels: ["board:*"],
    events: ["*"],
    mode: "live",
    key: "channel",
    secrets: [{ secret: "whsec_c2VjcmV0" }],
    headers: { "x-own": "ä" },
    timeoutMs: 1_000,
    maxInFlight: 4,
    ...more,
  };
}

describe.each(implementations)("endpoint store: %s", (_name, create) => {
  test("EP-9: all endpoints are read, and all that changed, however many there are", async () => {
    const { writer, reader } = await create();
    const before = await reader.version();
    const own = Array.from({ length: 450 }, () => endpoint());
    await Promise.all(own.map(async (each) => writer.create(each)));
    await writer.remove(own[0]?.id ?? "");
    const ids = new Set(own.slice(1).map(({ id }) => id));
    for (const version of [-1, before]) {
      const { endpoints, removed, isAll } = await reader.readSince(version);
      expect(new Set(endpoints.map((each) => each.endpoint.id).filter((id) => ids.has(id)))).toEqual(ids);
      expect(removed.includes(own[0]?.id ?? "") || isAll).toBe(true);
    }
  });

  test("EP-9: a change needs the version that it is based on, and all processes hear of it", async () => {
    const { writer, reader } = await create();
    let told = 0;
    reader.onChange(() => told++);
    const own = endpoint();
    const before = told;
    const stored = await writer.create(own);
    if (!stored) throw new Error("not created");
    expect(await reader.read(own.id)).toEqual(stored);
    await eventually(() => told > before);
    const changed = { ...own, description: "second" };
    expect(await writer.change(changed, stored.version)).toBe("stored");
    expect(await reader.change(own, stored.version)).toBe("changed_meanwhile");
    expect((await reader.read(own.id))?.endpoint).toEqual(changed);
    expect(await writer.remove(own.id)).toBe(true);
    expect(await writer.remove(own.id)).toBe(false);
    expect(await writer.change(own, stored.version)).toBe("none");
    expect(await reader.read(own.id)).toBeUndefined();
  });

  test("EP-9: a process reads what changed since a version, removed endpoints included", async () => {
    const { writer, reader } = await create();
    const [one, two] = [endpoint(), endpoint()];
    await writer.create(one);
    const { version } = await reader.readSince(-1);
    await writer.create(two);
    await writer.remove(one.id);
    const since = await reader.readSince(version);
    expect(since).toMatchObject({ isAll: false, removed: [one.id] });
    expect(since.endpoints.map((stored) => stored.endpoint)).toEqual([two]);
    expect(since.version).toBe(await reader.version());
    const all = await reader.readSince(-1);
    expect(all.isAll).toBe(true);
    expect(all.endpoints.map((stored) => stored.endpoint.id)).toContain(two.id);
    expect(all.endpoints.map((stored) => stored.endpoint.id)).not.toContain(one.id);
  });

  test("EP-9: a process that knows of changes which the store has lost reads everything", async () => {
    const { writer, reader } = await create();
    const own = endpoint();
    await writer.create(own);
    const version = await reader.version();
    const all = await reader.readSince(version + 1);
    expect(all).toMatchObject({ isAll: true, version });
    expect(all.endpoints.map((stored) => stored.endpoint.id)).toContain(own.id);
  });

  test("EP-10: a move begins a generation, and says whether what is queued is still sent", async () => {
    const { writer } = await create();
    const own = endpoint();
    const created = await writer.create(own);
    expect(created).toMatchObject({ generation: 0, validFrom: 0, startsAt: (created?.createdAt ?? 0) + 1 });
    const change = async (move?: Parameters<EndpointStore["change"]>[2]): Promise<unknown> => {
      const { version } = (await writer.read(own.id)) ?? { version: 0 };
      expect(await writer.change(own, version, move)).toBe("stored");
      return writer.read(own.id);
    };
    expect(await change()).toMatchObject({ generation: 0, validFrom: 0, startsAt: created?.startsAt });
    expect(await change({ startsAt: 5, generation: 1 })).toMatchObject({ generation: 1, validFrom: 1, startsAt: 5 });
    expect(await change({ startsAt: "same", keepsQueued: true, generation: 7 })).toMatchObject({
      ...{ generation: 7, validFrom: 1, startsAt: 5 },
    });
    const generation = 2 ** 52;
    const moved = (await change({ startsAt: "now", generation })) as { startsAt: number };
    expect(moved).toMatchObject({ generation, validFrom: generation, createdAt: created?.createdAt });
    expect(moved.startsAt).toBeGreaterThanOrEqual(created?.createdAt ?? Infinity);
  });
});

describe.each(implementations)("attempt log: %s", (_name, create) => {
  test("EP-6: attempts are listed newest first, a bounded number of them", async () => {
    const { attempts } = await create();
    const id = `ep_${randomUUID()}`;
    const added = Array.from({ length: keptAttempts + 5 }, async (_, at) => {
      const n = at + 1;
      await attempts.addSuccess(`${id}-other`, { at: n, changeId: "other", attempt: 1, status: 200, ms: n });
      await attempts.addSuccess(id, { at: n, changeId: `c${n}`, attempt: 1, status: 200, ms: n });
    });
    await Promise.all(added);
    const all = await attempts.attempts(id, { limit: 1_000 });
    expect(all.length).toBe(keptAttempts);
    expect(all[0]).toMatchObject({ at: keptAttempts + 5, changeId: `c${keptAttempts + 5}`, status: 200 });
    const page = await attempts.attempts(id, { limit: 2, after: all[1]?.id ?? "" });
    expect(page.map(({ at }) => at)).toEqual([keptAttempts + 3, keptAttempts + 2]);
    await attempts.forget(id);
    expect(await attempts.attempts(id, { limit: 10 })).toEqual([]);
  });

  test("EP-6: an endpoint fails from its first failure to its next success", async () => {
    const { attempts } = await create();
    const id = `ep_${randomUUID()}`;
    const failed = { changeId: "c", attempt: 1, ms: 1, error: "the endpoint answered 500", status: 500 };
    expect(await attempts.addFailure(id, { at: 10, ...failed })).toEqual({
      failingSince: 10,
      lastError: { at: 10, status: 500, message: failed.error },
    });
    expect(await attempts.addFailure(id, { at: 20, ...failed, error: "ECONNREFUSED" })).toMatchObject({
      failingSince: 10,
    });
    const { error: _error, ...succeeded } = failed;
    await attempts.addSuccess(id, { at: 30, ...succeeded, status: 204 });
    expect(await attempts.health([id])).toEqual([{ lastError: { at: 20, status: 500, message: "ECONNREFUSED" } }]);
    expect(await attempts.addFailure(id, { at: 40, ...failed })).toMatchObject({ failingSince: 40 });
    // Noted together: a success between two failures ends the first one's time.
    const other = `${id}-other`;
    const together = [
      attempts.addFailure(other, { at: 50, ...failed }),
      attempts.addSuccess(other, { at: 60, ...succeeded, status: 204 }),
      attempts.addFailure(id, { at: 70, ...failed }),
      attempts.addFailure(other, { at: 80, ...failed }),
    ];
    expect(await Promise.all(together)).toMatchObject([
      { failingSince: 50 },
      undefined,
      { failingSince: 40 },
      { failingSince: 80 },
    ]);
    await attempts.forgive(id);
    expect(await attempts.health([id, "unknown"])).toEqual([
      { lastError: { at: 70, status: 500, message: failed.error } },
      {},
    ]);
  });
});
