/** One record of the journal: an item as the queues take it, behind its length and its checksum. Pure. */
import { crc32 } from "node:zlib";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";
import type { NewItem } from "../../shared/queues/contract.ts";

/** Four bytes each for the length and the checksum of what follows. */
const prefixBytes = 8;
const lineBreak = 0x0a;

const Line = Type.Object({
  /** Unix ms. */
  at: Type.Number(),
  queue: Type.Object({ service: Type.String(), tenant: Type.String(), key: Type.String() }),
  class: Type.String(),
  head: Type.String(),
  source: Type.Optional(Type.String()),
  dedupeId: Type.Optional(Type.String()),
  dedupesEverywhere: Type.Optional(Type.Boolean()),
});
const line = Compile(Line);

export interface JournaledItem {
  readonly item: NewItem;
  /** When it was written, Unix ms. */
  readonly at: number;
}

/** The data stands behind the first line as it is: as a string in JSON it could take twice the room. */
export function encodeRecord({ item, at }: JournaledItem): Buffer {
  const { data, ...others } = item;
  const content = Buffer.from(`${JSON.stringify({ at, ...others } satisfies Static<typeof Line>)}\n${data}`);
  const record = Buffer.allocUnsafe(prefixBytes + content.length);
  record.writeUInt32BE(content.length, 0);
  record.writeUInt32BE(crc32(content), 4);
  content.copy(record, prefixBytes);
  return record;
}

/** @param content of a record whose checksum is right. @throws for what this version does not write */
export function decodeContent(content: Buffer): JournaledItem {
  const end = content.indexOf(lineBreak);
  const known = end === -1 ? undefined : parseJson(content.toString("utf8", 0, end));
  if (!line.Check(known)) throw new Error("the journal has a record that this version cannot read");
  const { at, ...others } = known;
  return { at, item: { ...others, data: content.toString("utf8", end + 1) } };
}

/** Of the record that begins there; undefined where its length is cut off. */
export function recordBytes(bytes: Buffer, from = 0): number | undefined {
  return bytes.length - from < prefixBytes ? undefined : prefixBytes + bytes.readUInt32BE(from);
}

/**
 * The contents of the whole records that `bytes` begins with, at most `maxRecords`.
 * @returns `ends`: where each of them ends. `rest`: what follows: a record or its beginning, or what no record begins with
 */
export function splitRecords(
  bytes: Buffer,
  maxRecords: number,
): { contents: readonly Buffer[]; ends: readonly number[]; rest: "none" | "part" | "bad" } {
  const contents: Buffer[] = [];
  const ends: number[] = [];
  let end = 0;
  while (end < bytes.length && contents.length < maxRecords) {
    const taken = recordBytes(bytes, end);
    // A file system may leave zeros where it had no time to write: no record is empty.
    if (taken === prefixBytes) return { contents, ends, rest: "bad" };
    if (taken === undefined || end + taken > bytes.length) break;
    const content = bytes.subarray(end + prefixBytes, end + taken);
    if (crc32(content) !== bytes.readUInt32BE(end + 4)) return { contents, ends, rest: "bad" };
    contents.push(content);
    ends.push((end += taken));
  }
  return { contents, ends, rest: end < bytes.length ? "part" : "none" };
}
