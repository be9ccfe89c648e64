/**
 * Kills a private API while a shard that it reads has a gap: a transaction has drawn an id, or a number, and the reader has passed it. The stored
 * position says so; the private API is frozen first, so that it says so still when it is killed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { parsePosition } from "../../private-api/sources/gaps.ts";
import { parseProgress } from "../../private-api/sources/progress.ts";
import { parseSnapshot } from "../../private-api/sources/snapshot.ts";
import type { SqlShardStore } from "../../shared/sql-sources/contract.ts";
import type { SeededRandom } from "../../test/support/seeded-random.ts";
import { accounts, freshN, insertOf, type SqlSession } from "../../test/support/sql-workload.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import type { Program } from "../checker/schedule-program.ts";
import type { ArenaShard } from "./shards.ts";

/** Of kills inside a gap. */
export interface KillFigures {
  pg: number;
  maria: number;
  /** Of all of these: a page of the shard was begun, and not all of it was stored as published. */
  withPage: number;
}

export interface GapKills {
  readonly privateApis: readonly Program[];
  readonly shards: readonly ArenaShard[];
  readonly store: Pick<SqlShardStore, "read">;
  /** Names of the shards that the private API with that number reads. */
  readonly readBy: (source: ArenaShard["source"], number: number) => Promise<readonly string[]>;
  /** Counted here. */
  readonly kills: KillFigures;
}

const lookEveryMs = 2;
const retryMs = 100;
/** Freezes until a page is begun: one that is missed has ended meanwhile. */
const maxFreezes = 100;
/** For the reader to pass the gap. Only ends a wait in vain: the reader may have lost the shard. */
const passedWithinMs = 30_000;

/** Ends once the private API is ready again. */
export function killedInGap(options: GapKills): Fault {
  return {
    kind: "private API killed inside a gap",
    targets: options.privateApis,
    run: async (target, random, signal) => {
      const program = target as Program;
      while (!signal.aborted) {
        // Drawn for each try: the target may read shards of one database only.
        const source = random.pick(["pg", "maria"] as const);
        try {
          if (await killOnce(options, { program, source, random, signal })) return;
        } catch {
          // A database or Redis restarts.
        }
        await lasts(retryMs, signal);
      }
    },
  };
}

interface Kill {
  readonly program: Program;
  readonly source: ArenaShard["source"];
  readonly random: SeededRandom;
  readonly signal: AbortSignal;
}

/** @returns false where the private API reads no shard, or does not pass the gap: it was not killed */
async function killOnce(options: GapKills, { program, source, random, signal }: Kill): Promise<boolean> {
  const number = options.privateApis.indexOf(program);
  const names = await options.readBy(source, number);
  const shards = options.shards.filter(({ name }) => names.includes(name));
  if (shards.length === 0) return false;
  const shard = random.pick(shards);
  const account = `${shard.prefix}${random.between(1, accounts)}`;
  const ends = random.pick(["at the kill", "after the restart", "once it is read again"] as const);
  const [open, later] = [await shard.connect(), await shard.connect()];
  try {
    await open.query("BEGIN");
    await open.query(insertOf(account, freshN()));
    const gap = { shard, own: await ownNumber(shard, open) };
    const writeLater = async (): Promise<void> => void (await later.query(insertOf(account, freshN())));
    const position = await frozenInside(options, { program, gap, wantsPage: random.next() < 0.5, writeLater });
    if (!position) return false;
    await program.kill();
    options.kills[source]++;
    if (position.isPageBegun) options.kills.withPage++;
    const end = async (): Promise<void> => void (await open.query(random.next() < 0.25 ? "ROLLBACK" : "COMMIT"));
    if (ends === "at the kill") await end().catch(() => undefined);
    await lasts(random.between(0, 1_000), signal);
    program.restart();
    await program.ready();
    while (ends === "once it is read again" && !signal.aborted && !(await isReadAgain(options, shard))) {
      await lasts(retryMs, signal);
    }
    if (ends !== "at the kill") await end().catch(() => undefined);
    return true;
  } finally {
    await Promise.all([open, later].map(async (session) => session.end().catch(() => undefined)));
  }
}

/** The id that the transaction has drawn in MariaDB, its number in PostgreSQL: what a stored position names. */
async function ownNumber({ source }: ArenaShard, open: SqlSession): Promise<string> {
  const [row] = await open.query(
    `SELECT CAST(${source === "pg" ? "pg_current_xact_id()" : "LAST_INSERT_ID()"} AS char(20)) AS own`,
  );
  return String(row?.["own"]).trim();
}

interface Gap {
  readonly shard: ArenaShard;
  readonly own: string;
}

/** @returns where the private API is frozen, inside the gap. Undefined: it was not seen there in time, and runs. */
async function frozenInside(
  options: GapKills,
  given: { program: Program; gap: Gap; wantsPage: boolean; writeLater: () => Promise<void> },
): Promise<Position | undefined> {
  const { program, gap, wantsPage, writeLater } = given;
  const deadline = performance.now() + passedWithinMs;
  await writeLater();
  for (let freezes = 0; performance.now() < deadline;) {
    const isEnough = (position: Position | undefined): boolean =>
      position !== undefined && (position.isPageBegun || !wantsPage || freezes >= maxFreezes);
    const seen = await positionIn(options.store, gap);
    if (isEnough(seen)) {
      freezes++;
      const frozen = await frozenPosition(options, program, gap);
      if (frozen === "another reader") return undefined;
      if (frozen && isEnough(frozen)) return frozen;
      program.signal("SIGCONT");
    } else if (seen) await writeLater();
    await pause(lookEveryMs);
  }
  return undefined;
}

/** Freezes the private API and reads its position. Lets it run again where that fails, or where another private API reads the shard. */
async function frozenPosition(
  { store, readBy, privateApis }: GapKills,
  program: Program,
  gap: Gap,
): Promise<Position | "another reader" | undefined> {
  const { source, name } = gap.shard;
  let isReader = false;
  program.signal("SIGSTOP");
  try {
    const position = await positionIn(store, gap);
    isReader = (await readBy(source, privateApis.indexOf(program))).includes(name);
    return isReader ? position : "another reader";
  } finally {
    if (!isReader) program.signal("SIGCONT");
  }
}

interface Position {
  readonly isPageBegun: boolean;
}

/** Undefined while the stored position is not inside the gap. */
async function positionIn(store: GapKills["store"], { shard, own }: Gap): Promise<Position | undefined> {
  const { progress } = await store.read(shard.name);
  if (progress === undefined) return undefined;
  const { cursor, begun } = parseProgress(progress);
  return [cursor, ...(begun ? [begun.next] : [])].some((text) => isInside(shard, text, own))
    ? { isPageBegun: begun !== undefined }
    : undefined;
}

function isInside({ source }: ArenaShard, cursor: string, own: string): boolean {
  if (source === "pg") return parseSnapshot(cursor).inProgress.includes(own);
  return parsePosition(cursor).gaps.some(({ from, to }) => BigInt(from) <= BigInt(own) && BigInt(own) <= BigInt(to));
}

async function isReadAgain({ privateApis, readBy }: GapKills, { source, name }: ArenaShard): Promise<boolean> {
  const all = await Promise.all(privateApis.map(async (_, number) => readBy(source, number)));
  return all.flat().includes(name);
}
