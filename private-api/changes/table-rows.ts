/** Completes reads of the change log: for rows that have left the log, reads their data from the tables of SQL sources. */
import type { RowName } from "../../shared/channels/contract.ts";
import type { Change, RowChange, SlotRead } from "../../shared/changes/contract.ts";
import { joinedGap } from "./joined-gap.ts";

/** The change that a row would be published as now. */
export interface TableRow {
  readonly channel: string;
  readonly event: string;
  /** JSON text. */
  readonly data: string;
}

export interface TableRows {
  /**
   * By {@link rowKey}; rows that are gone are left out.
   * @throws TidegateError `upstream_unavailable` where a table is out of reach
   */
  read(rows: readonly RowName[]): Promise<ReadonlyMap<string, TableRow>>;
}

export function rowKey({ shard, id }: RowName): string {
  return `${shard} ${id}`;
}

/**
 * The same reads with the data of their rows; a gap covers rows that are gone, or have another channel or event now.
 * @throws TidegateError `upstream_unavailable`
 */
export async function withTableRows(reads: readonly SlotRead[], tables: TableRows): Promise<readonly SlotRead[]> {
  const names = reads.flatMap(({ rows }) => rows?.changes.map(({ row }) => row) ?? []);
  if (names.length === 0) return reads;
  const found = await tables.read(names);
  return reads.map((read) => filled(read, found));
}

function filled({ rows, ...read }: SlotRead, found: ReadonlyMap<string, TableRow>): SlotRead {
  if (!rows) return read;
  const changes: Change[] = [];
  const missing: RowChange[] = [];
  for (const change of rows.changes) {
    const { row, bytes: _bytes, ...head } = change;
    const now = found.get(rowKey(row));
    if (now?.channel === head.channel && now.event === head.event) changes.push({ ...head, data: now.data });
    else missing.push(change);
  }
  const gap = joinedGap([...(read.gap ? [read.gap] : []), ...missing.map(({ at }) => ({ from: at, to: at }))]);
  return { ...read, ...(gap && { gap }), changes };
}
