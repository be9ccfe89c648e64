/** Processes that run bridges are frozen and killed while both sides write. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { connectOldClient, type OldClient, type OldServer, startOldServer } from "../support/old-fleet.ts";
import { type PrivateApiProcess, spawnPrivateApi } from "../support/private-api-process.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

const bridges = ["classic", "streams"] as const;
type BridgeName = (typeof bridges)[number];

let redis: RedisServer;
let oldRedis: RedisServer;
let servers: Record<BridgeName, OldServer>;
let fleet: Fleet;
const runners: PrivateApiProcess[] = [];

beforeAll(async () => {
  [redis, oldRedis] = await Promise.all([startRedis(), startRedis()]);
  const [classic, streams] = await Promise.all(
    bridges.map(async (adapter) => startOldServer(oldRedis.url, adapter, adapter)),
  );
  servers = { classic, streams } as typeof servers;
  const common = { redis: "env:LEGACY_REDIS_URL" };
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    // The bridges run in processes of their own.
    environment: { DISPATCH_CONCURRENCY: "0", LEGACY_REDIS_URL: oldRedis.url },
    rules: {
      namespaces: { default: { changes: true } },
      bridges: Object.fromEntries(
        bridges.map((name) => [
          name,
          { ...common, adapter: name, key: name, rooms: { [`${name}-{id}`]: `${name}:{id}` } },
        ]),
      ),
    },
  });
  for (let n = 0; n < 4; n++) runners.push(await startRunner());
});
afterAll(async () => {
  closeClients();
  for (const { process } of runners) process.kill("SIGKILL");
  await fleet.stop();
  for (const name of bridges) await servers[name].stop();
  await Promise.all([redis.stop(), oldRedis.stop()]);
});

async function startRunner(): Promise<PrivateApiProcess> {
  return spawnPrivateApi({
    REDIS_URL: redis.url,
    LEGACY_REDIS_URL: oldRedis.url,
  });
}

/** The process in which the bridge is live, among those that answer. */
async function runnerOf(name: BridgeName, among: readonly PrivateApiProcess[]): Promise<PrivateApiProcess | undefined> {
  for (const runner of among) {
    const metrics = await (await fetch(`${runner.url}/metrics`)).text();
    if (metrics.includes(`tidegate_bridge_up{bridge="${name}"} 1`)) return runner;
  }
  return undefined;
}

async function liveRunner(name: BridgeName, among: readonly PrivateApiProcess[]): Promise<PrivateApiProcess> {
  let found: PrivateApiProcess | undefined;
  await eventually(async () => (found = await runnerOf(name, among)) !== undefined);
  return found as PrivateApiProcess;
}

/** Rounds that both sides have written so far, the one under way included. */
let written = 0;

/** Writes so many rounds: on both sides of every bridge, in turn. */
async function write(rounds: number): Promise<void> {
  for (const end = written + rounds; written < end;) {
    const round = written++;
    for (const name of bridges) {
      servers[name].io.to(`${name}-1`).emit("note", `emit ${round}`);
      servers[name].io.to(`${name}-1`).volatile.emit("typing", `volatile ${round}`);
      const item = { channel: `${name}:1`, event: "note", data: `publish ${round}` };
      expect((await fleet.api("POST", "/v1/publish", item)).status).toBe(200);
    }
  }
}

const seenBy = ({ received }: StockClient): unknown[] => received.map(({ data }) => data);
const seenByOld = ({ received }: OldClient): unknown[] => received.map(({ args }) => args[0]);

/** The numbers of one sender's messages, as they came. */
function numbersOf(sender: "emit" | "volatile" | "publish", list: readonly unknown[]): number[] {
  return list.flatMap((text) => {
    const [by, n] = String(text).split(" ");
    return by === sender ? [Number(n)] : [];
  });
}

function isGrowing(numbers: readonly number[]): boolean {
  return numbers.every((n, at) => at === 0 || n > (numbers[at - 1] ?? n));
}

test("BRI-8: a takeover doubles nothing, and loses only emits of the old side on their way", async () => {
  const [url = ""] = fleet.urls;
  const eve = await connectClient(url, { channels: ["*"] });
  const old = {} as Record<BridgeName, OldClient>;
  for (const name of bridges) {
    await eve.subscribe(`${name}:1`);
    old[name] = await connectOldClient(servers[name].url, [`${name}-1`]);
  }
  const seen = (name: BridgeName): unknown[] =>
    eve.received.flatMap(({ data, meta }) => ((meta as { channel: string }).channel === `${name}:1` ? [data] : []));
  let [frozen, killed] = [await liveRunner("classic", runners), await liveRunner("streams", runners)];
  // Until each process knows of all the others.
  await eventually(async () => {
    [frozen, killed] = [await liveRunner("classic", runners), await liveRunner("streams", runners)];
    return frozen !== killed;
  });
  await write(50);
  // Of each round, two emits and a publication of each bridge.
  await eventually(() => seenBy(eve).length === 50 * 3 * bridges.length);
  let takenOver = 0;
  const takeOver = async (): Promise<void> => {
    frozen.process.kill("SIGSTOP");
    killed.process.kill("SIGKILL");
    const others = runners.filter((runner) => runner !== frozen && runner !== killed);
    for (const name of bridges) await liveRunner(name, others);
    takenOver = written;
  };
  await Promise.all([takeOver(), write(300)]);
  await write(50);
  frozen.process.kill("SIGCONT");
  await write(150);

  const all = Array.from({ length: written }, (_, n) => n);
  for (const name of bridges) {
    await eventually(() => numbersOf("emit", seen(name)).at(-1) === all.length - 1);
    // None of these waits for another.
    await eventually(() => numbersOf("publish", seen(name)).length >= all.length);
    await eventually(() => numbersOf("publish", seenByOld(old[name])).length >= all.length);
    await eventually(() => numbersOf("emit", seenByOld(old[name])).length >= all.length);
    expect(numbersOf("publish", seen(name)), name).toEqual(all);
    expect(numbersOf("publish", seenByOld(old[name])), name).toEqual(all);
    expect(numbersOf("emit", seenByOld(old[name])), name).toEqual(all);
    expect(isGrowing(numbersOf("emit", seen(name))), name).toBe(true);
    expect(isGrowing(numbersOf("volatile", seen(name))), name).toBe(true);
  }
  // A stream still has what was emitted meanwhile.
  expect(numbersOf("emit", seen("streams"))).toEqual(all);
  const carried = numbersOf("emit", seen("classic"));
  const lost = all.filter((n) => !carried.includes(n));
  // Of one stretch: from the freeze to the takeover.
  expect(lost.length).toBeGreaterThan(0);
  expect((lost.at(-1) ?? 0) - (lost[0] ?? 0) + 1).toBe(lost.length);
  expect(lost.at(-1)).toBeLessThan(takenOver);
});
