/** One random schedule: writers fill every shard while faults are drawn from a seed; then every row must have been published once. */
import { setTimeout as pause } from "node:timers/promises";
import { isGap, pull } from "../../test/support/change-puller.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import { type NaiveReader, startNaiveReader, startWorkload, type Workload } from "../../test/support/sql-workload.ts";
import { FaultRunner } from "../checker/fault-runner.ts";
import type { ScheduleResult } from "../checker/schedule-series.ts";
import type { SqlArena } from "./arena.ts";
import type { ArenaShard } from "./shards.ts";
import { judge, type ShardVerdict } from "./violations.ts";

/** A lease must end, and a program may take a minute to start on a busy machine. */
const settleMs = 240_000;
const checkEveryMs = 500;

export interface SqlScheduleOptions {
  readonly arena: SqlArena;
  readonly seed: string;
  readonly index: number;
  /** Of all shards together. */
  readonly writers: number;
  /** Number of the first fault, in the endless list of the arena's faults. */
  readonly turn: number;
  readonly turns: number;
}

interface WrittenShard {
  readonly shard: ArenaShard;
  readonly prefix: string;
  readonly workload: Workload;
  readonly naive: NaiveReader;
}

export async function runSqlSchedule(options: SqlScheduleOptions): Promise<ScheduleResult<ShardVerdict>> {
  const { arena, seed, index } = options;
  const random = new SeededRandom(`${seed}/${index}`);
  const faults = new FaultRunner({ seed: `${seed}/${index}`, random, busy: arena.busy, lossWindows: [] });
  const { cursor } = await pull(arena.deployment.apiUrl, { cursor: "end" });
  const written = arena.shards.map((shard, at) => startWriting(shard, options, at));
  let verdicts: ShardVerdict[] = [];
  try {
    for (let n = options.turn; n < options.turn + options.turns; n++) {
      await pause(random.between(100, 2_000));
      const fault = arena.faults[n % arena.faults.length];
      if (fault) await faults.beginOnceFree(fault);
    }
    await faults.allEnd();
    await pause(1_000);
    await Promise.all(written.map(async ({ workload }) => workload.stop()));
    faults.note("writers end");
    verdicts = await Promise.all(written.map(async (each) => verdictOn(arena, each, cursor)));
  } catch (error) {
    faults.failures.push(String(error));
  } finally {
    await faults.stop();
    await Promise.all(written.map(async ({ workload }) => workload.stop()));
    await Promise.all(written.map(async ({ naive }) => naive.stop()));
  }
  const { failures, kinds, log } = faults;
  return {
    ...{ index, arena: "standalone", faults: kinds, verdicts },
    failures: [...failures, ...arena.deployment.deaths()],
    trace: () =>
      [
        `schedule ${index} of seed ${seed}, began at ${faults.beganAt}`,
        ...log.map((line) => `  ${line}`),
        ...failures,
        ...verdicts.flatMap(({ violations }) => violations.map(({ kind, detail }) => `${kind}: ${detail}`)),
        ...arena.deployment.lastOutput(),
      ].join("\n"),
  };
}

function startWriting(
  shard: ArenaShard,
  { seed, index, writers, arena }: SqlScheduleOptions,
  at: number,
): WrittenShard {
  const { connect, early } = shard;
  const prefix = `${index}-${at}-`;
  shard.prefix = prefix;
  const own = Math.floor(writers / arena.shards.length) + (at < writers % arena.shards.length ? 1 : 0);
  return {
    ...{ shard, prefix, naive: startNaiveReader(connect) },
    workload: startWorkload({ connect, early, prefix, writers: own, seed: `${seed}/${index}/${at}` }),
  };
}

/** Waits until every row is published, or no more are. */
async function verdictOn(
  arena: SqlArena,
  { shard, prefix, workload, naive }: WrittenShard,
  cursor: string,
): Promise<ShardVerdict> {
  const session = await shard.connect();
  const rows = await session.query(`SELECT object_id FROM transactions WHERE account_id LIKE '${prefix}%' ORDER BY id`);
  await session.end();
  const committed = rows.map((row) => Number(row["object_id"]));
  let most = -1;
  let progressAt = performance.now();
  for (;;) {
    const published = await publishedOf(arena, `${shard.source}:${prefix}`, cursor).catch(
      () => new Map<string, number[]>(),
    );
    const count = new Set([...published.values()].flat()).size;
    if (count > most) progressAt = performance.now();
    most = Math.max(most, count);
    if (count >= committed.length || performance.now() - progressAt > settleMs) {
      const { written } = workload;
      return judge({ shard: shard.name, committed, published, written, lostByNaive: (await naive.stop()).length });
    }
    await pause(checkEveryMs);
  }
}

/** The n of rows by channel, in order. */
async function publishedOf({ deployment }: SqlArena, prefix: string, begun: string): Promise<Map<string, number[]>> {
  const byChannel = new Map<string, number[]>();
  const { apiUrls } = deployment;
  let cursor = begun;
  for (let asked = 0; ; asked++) {
    const answer = await pull(apiUrls[asked % apiUrls.length] ?? "", { channels: `${prefix}*`, cursor });
    for (const item of answer.changes) {
      if (isGap(item)) throw new Error("the log has a gap");
      const inOrder = byChannel.get(item.channel) ?? [];
      byChannel.set(item.channel, inOrder);
      inOrder.push((item.data as { n: number }).n);
    }
    // An answer may be empty where it passed over many changes of others.
    if (answer.changes.length === 0 && answer.cursor === cursor) return byChannel;
    ({ cursor } = answer);
  }
}
