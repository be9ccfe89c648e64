/** What read-changes.lua returns. Pure. */
import type * as contract from "./contract.ts";
import { endedRead, timeOf } from "./places.ts";

export type ReadReply =
  [gapFrom: string, gapTo: string, place: string, newest: string, rowsUntil: string, ...entries: string[]] | [];

export function toSlotRead(slot: number, reply: ReadReply): contract.SlotRead {
  const [gapFrom = "", gapTo = "", place, newest, rowsUntil, ...entries] = reply;
  if (place === undefined || newest === undefined) return endedRead(slot);
  const gap = gapFrom === "" ? undefined : { from: Number(gapFrom), to: Number(gapTo) };
  const read = { slot, ...(gap && { gap }), place, newest };
  const found: (Omit<contract.Change, "data"> & { text: string })[] = [];
  for (let at = 0; at < entries.length; at += 4) {
    const [id = "", head = "", text = "", origin = ""] = entries.slice(at, at + 4);
    const [epoch = "", offset, prev, event = "", channel = ""] = head.split(" ");
    const position = { place: id, at: timeOf(id), channel, epoch, offset: Number(offset), prev: Number(prev) };
    found.push({ ...position, event, text, ...(origin !== "" && { origin }) });
  }
  if (rowsUntil === "") return { ...read, changes: found.map(({ text: data, ...change }) => ({ ...change, data })) };
  const changes = found.map(({ text, ...change }) => {
    const [shard = "", rowId = "", bytes] = text.split(" ");
    return { ...change, row: { shard, id: rowId }, bytes: Number(bytes) };
  });
  return { ...read, changes: [], rows: { changes, until: rowsUntil ?? place } };
}

/**
 * Leaves out changes past the bounds.
 * @param bounds.mayBeLarger the first change is kept, whatever its size
 * @returns the same read where all of it is within them; undefined: nothing is
 */
export function cut(
  read: contract.SlotRead,
  { limit, maxBytes, mayBeLarger }: { limit: number; maxBytes: number; mayBeLarger: boolean },
): contract.SlotRead | undefined {
  const { rows } = read;
  const sizes = rows ? rows.changes.map(({ bytes }) => bytes) : read.changes.map(({ data }) => Buffer.byteLength(data));
  let bytes = 0;
  let count = 0;
  for (const size of sizes) {
    bytes += size;
    if (count === limit || (bytes > maxBytes && !(mayBeLarger && count === 0))) break;
    count++;
  }
  if (count === sizes.length) return read;
  if (count === 0) return undefined;
  if (rows) {
    const changes = rows.changes.slice(0, count);
    return { ...read, rows: { ...rows, changes }, place: changes.at(-1)?.place ?? read.place };
  }
  const changes = read.changes.slice(0, count);
  return { ...read, changes, place: changes.at(-1)?.place ?? read.place };
}

export function countOf({ changes, rows }: contract.SlotRead): number {
  return changes.length + (rows?.changes.length ?? 0);
}

export function dataBytesOf({ changes, rows }: contract.SlotRead): number {
  const ofRows = rows?.changes.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
  return changes.reduce((sum, { data }) => sum + Buffer.byteLength(data), ofRows);
}
