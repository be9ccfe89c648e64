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
