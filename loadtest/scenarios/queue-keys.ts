/**
 * What keyed queues leave behind in Redis: a million keys with one item each, all of them delivered.
 *
 *   npm run loadtest -- queue-keys [--json]
 *   KEYS (1000000) CONCURRENCY (128)
 *
 * The items wait in Redis together before the first one is delivered. The base is taken once every slot has its counters.
 * Verdicts: every item arrives; the number of keys is that of the base; used_memory is within 1 % of it.
 */
import type { ScenarioReport } from "../checks/scenario-report.ts";
import type { Fleet } from "../rig/fleet.ts";
import { itemOf, openStore, startDispatcher, workersForFirstAttempts } from "../rig/queue-rig.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { eventually } from "../../test/support/eventually.ts";

const parameters = {
  keys: parameter("KEYS", 1_000_000, 1_000, 10_000_000),
  concurrency: parameter("CONCURRENCY", 128, 1, 1_000),
};
/** So many keys reach every slot. */
const keysOfBase = 20_000;
const bulk = 1_000;
const drainWithinMs = 600_000;
/** Redis shrinks its tables and buffers in the background. */
const settleWithinMs = 15_000;
const memoryTolerance = 0.01;

interface Reading {
  readonly keys: number;
  readonly bytes: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const url = await fleet.startRedis();
  const reader = new RedisUseReader(url);
  // Both take memory, within bounds, that says nothing of keys: a histogram for each command, the arguments of slow calls.
  await reader.client.config("SET", "latency-tracking", "no", "slowlog-log-slower-than", "-1");
  try {
    let delivered = await fillAndDrain(url, "base", keysOfBase);
    const base = await settled(reader, undefined);
    say(`base: ${base.keys} keys, ${base.bytes} bytes`);
    let full: Reading = base;
    delivered += await fillAndDrain(url, "key", parameters.keys, async () => {
      full = await read(reader);
      say(`full: ${full.keys} keys, ${full.bytes} bytes`);
    });
    const drained = await settled(reader, base);
    const growth = drained.bytes / base.bytes - 1;
    return {
      scenario: "queue-keys",
      parameters,
      figures: {
        "bytes of Redis per waiting key": Math.round((full.bytes - base.bytes) / parameters.keys),
      },
      tables: [
        {
          columns: ["", "keys", "used_memory, bytes"],
          rows: [
            ["base", base.keys, base.bytes],
            ["every key waits", full.keys, full.bytes],
            ["drained", drained.keys, drained.bytes],
          ],
        },
      ],
      verdicts: [
        {
          title: "every item was delivered",
          pass: delivered === keysOfBase + parameters.keys,
          value: delivered,
        },
        { title: "the number of keys is that of the base", pass: drained.keys === base.keys, value: drained.keys },
        {
          title: "used_memory is within 1 % of the base",
          pass: Math.abs(growth) <= memoryTolerance,
          value: `${(growth * 100).toFixed(2)} %`,
        },
      ],
    };
  } finally {
    reader.stop();
  }
}

/** Its connections end with it, and their buffers. @returns the number of items that were delivered. */
async function fillAndDrain(
  url: string,
  prefix: string,
  count: number,
  whenFull: () => Promise<void> = async () => undefined,
): Promise<number> {
  const { store, stop } = await openStore(url);
  for (let first = 0; first < count; first += bulk) {
    const numbers = Array.from({ length: Math.min(bulk, count - first) }, (_, index) => first + index);
    await Promise.all(
      numbers.map(async (number) => store.enqueue(itemOf({ key: `${prefix}-${number}`, id: String(number) }))),
    );
  }
  await whenFull();
  let delivered = 0;
  const workers = workersForFirstAttempts(parameters.concurrency);
  const dispatcher = await startDispatcher(store, { workers, work: () => void delivered++ });
  await eventually(() => delivered >= count, drainWithinMs);
  await dispatcher.stop();
  await stop();
  return delivered;
}

async function read(reader: RedisUseReader): Promise<Reading> {
  return { keys: await reader.client.dbsize(), bytes: await reader.usedMemory() };
}

/** The least memory within the time that Redis is given; ends early once it is that of `base`. */
async function settled(reader: RedisUseReader, base: Reading | undefined): Promise<Reading> {
  let least = await read(reader);
  const deadline = performance.now() + settleWithinMs;
  while (performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const now = await read(reader);
    if (now.bytes < least.bytes) least = now;
    if (base && least.keys === base.keys && least.bytes <= base.bytes) break;
  }
  return least;
}

await runScenario(run);
