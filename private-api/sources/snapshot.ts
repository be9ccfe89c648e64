/** Snapshots of PostgreSQL, as `pg_current_snapshot()` writes them: `xmin:xmax:in progress`. Pure. */
import { SourceRefused } from "./contract.ts";

export interface Snapshot {
  /** Every transaction before it has ended, but for {@link inProgress}. The first one that had not begun. */
  readonly xmax: string;
  /** Transactions before xmax that had not ended. */
  readonly inProgress: readonly string[];
}

/** Before every transaction of an application. */
export const firstSnapshot = "3:3:";

/** @throws SourceRefused */
export function parseSnapshot(text: string): Snapshot {
  const [, xmax, list = ""] = /^\d+:(\d+):([\d,]*)$/.exec(text) ?? [];
  if (xmax === undefined) throw new SourceRefused("the stored cursor is no snapshot of PostgreSQL");
  return { xmax, inProgress: list === "" ? [] : list.split(",") };
}

/**
 * What is visible in `present`, as a cursor: up to the newest row. It says nothing about later transactions, because they may end without a
 * trace on the disk: after a crash the server gives their numbers again. Those before a row that was committed it gives never again.
 * @param options.newest transaction of the newest row, if there is one
 */
export function cursorThrough(present: string, { cursor, newest }: { cursor: string; newest: string | null }): string {
  const known = BigInt(parseSnapshot(cursor).xmax);
  const ofRow = newest === null ? 0n : BigInt(newest) + 1n;
  const xmax = ofRow > known ? ofRow : known;
  // In ascending order.
  const inProgress = parseSnapshot(present).inProgress.filter((transaction) => BigInt(transaction) < xmax);
  return `${inProgress[0] ?? xmax}:${xmax}:${inProgress.join(",")}`;
}

/** The database has lost transactions that the other snapshot knew, and may give their numbers again. */
export function isBefore(one: string, other: string): boolean {
  return BigInt(parseSnapshot(one).xmax) < BigInt(parseSnapshot(other).xmax);
}

/** An expression: a number of 32 bits, such as xmin, with the high half of the present transaction. @param column of the type xid */
export function wholeTransaction(column: string): string {
  return `(SELECT (present - CASE WHEN own > present & 4294967295 THEN 4294967296 ELSE 0 END - (present & 4294967295) + own)::text::xid8
  FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS present, ${column}::text::bigint AS own) numbers)`;
}
