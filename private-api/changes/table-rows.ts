/** Completes reads of the change log: for rows that have left the log, reads their data from the tables of SQL sources. */
import type { RowName } from "../../shared/channels/contract.ts";
import type { Change, ReadBounds, RowChange, SlotRead } from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import { ReadRoom } from "../../shared/changes/read-room.ts";
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
 * The same reads with the data of their rows; a gap covers rows that are gone, or have another channel or event now. A row may have more
 * data than when it left the log: the reads end where the bounds end them, and later slots are left out.
 * @throws TidegateError `upstream_unavailable`
 */
export async function withTableRows(
  reads: readonly SlotRead[],
  tables: TableRows,
  bounds: Pick<ReadBounds, "limit" | "maxBytes">,
): Promise<readonly SlotRead[]> {
  const names = reads.flatMap(({ rows }) => rows?.changes.map(({ row }) => row) ?? []);
  if (names.length === 0) return reads;
  const found = await tables.read(names);
  const room = new ReadRoom(bounds);
  const bounded: SlotRead[] = [];
  for (const read of reads) {
    if (room.isUsedUp) break;
    const filled = fill(read, found, room);
    if (filled) bounded.push(filled);
  }
  return bounded;
}

/** Undefined where there is no room. */
function fill({ rows, ...read }: SlotRead, found: ReadonlyMap<string, TableRow>, room: ReadRoom): SlotRead | undefined {
  if (!rows) return room.take(read);
  const changes: Change[] = [];
  const missing: RowChange[] = [];
  for (const change of rows.changes) {
    const { row, bytes: _bytes, ...head } = change;
    const now = found.get(rowKey(row));
    if (now?.channel === head.channel && now.event === head.event) changes.push({ ...head, data: now.data });
    else missing.push(change);
  }
  const taken = room.take({ ...read, changes });
  if (!taken) return undefined;
  const passed = missing.filter(({ place }) => comparePlaces(place, taken.place) <= 0);
  const gap = joinedGap([...(taken.gap ? [taken.gap] : []), ...passed.map(({ at }) => ({ from: at, to: at }))]);
  return { ...taken, ...(gap && { gap }) };
}
