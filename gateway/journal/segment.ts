/** Segments: the files that a journal consists of, each with records one behind the other. */
import { open, truncate } from "node:fs/promises";
import { join } from "node:path";
import { decodeContent, type JournaledItem, recordBytes, splitRecords } from "./record.ts";

export interface Segment {
  /** Grows with each segment of a directory. */
  readonly number: number;
  readonly path: string;
  /** Of the mark and the records that are fsynced. */
  bytes: number;
}

/** Begins each file. It changes with the form of records, and of the items in them. */
export const mark = Buffer.from("tidegate journal 2\n");
const numberDigits = 12;
/** Of one read, where a record is not larger. */
const readBytes = 512 * 1024;

export function segmentPath(directory: string, number: number): string {
  return join(directory, `${String(number).padStart(numberDigits, "0")}.journal`);
}

/** @returns undefined for other files. */
export function segmentNumber(fileName: string): number | undefined {
  const [, digits] = /^(\d{12})\.journal$/.exec(fileName) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

export interface ReadRecord extends JournaledItem {
  /** The offset behind it. */
  readonly next: number;
}

/**
 * Reads whole records from an offset on: about half a MiB, and at least one where there is one.
 * @returns `isWhole`: false where something else than a record follows the last of them
 */
export async function readRecords(
  { path, bytes }: Segment,
  from: number,
  maxRecords: number,
): Promise<{ records: readonly ReadRecord[]; isWhole: boolean }> {
  const left = bytes - from;
  let read = await readAt(path, from, Math.min(left, readBytes));
  const first = recordBytes(read);
  if (first !== undefined && first > read.length && first <= left) read = await readAt(path, from, first);
  const { contents, ends, rest } = splitRecords(read, maxRecords);
  const records = contents.map((content, index) => ({ ...decodeContent(content), next: from + (ends[index] ?? 0) }));
  return { records, isWhole: rest === "none" || (rest === "part" && records.length > 0) };
}

export interface FoundSegment {
  readonly segment: Segment;
  /** Where the records begin that are still to be replayed. */
  readonly from: number;
  /** How many these are. */
  readonly items: number;
  /** When the first of them was written, Unix ms. */
  readonly oldestAt: number | undefined;
  /** Cut off, because no whole record begins there. */
  readonly cutBytes: number;
}

/**
 * Finds out what a segment holds, and cuts off what a crash left half written.
 * @param since where its replay had come to; where no record begins there, it counts as not begun
 * @returns undefined for a file that a crash left without a record
 * @throws for a file that this version has not written
 */
export async function inspectSegment(
  directory: string,
  number: number,
  since: number,
): Promise<FoundSegment | undefined> {
  const path = segmentPath(directory, number);
  const { size, begins } = await beginning(path);
  // Zeros: the file system had no time to write the first group, so no later one was acknowledged.
  if (size <= mark.length || begins.every((byte) => byte === 0)) return undefined;
  if (!begins.equals(mark)) {
    throw new Error(`${path} is of another version: replay it with the version that wrote it, or move it away`);
  }
  const all = { from: mark.length, items: 0, oldestAt: undefined as number | undefined };
  const rest = { ...all, from: since };
  let isKnown = since === mark.length;
  let offset = mark.length;
  for (;;) {
    const { records, isWhole } = await readRecords({ number, path, bytes: size }, offset, Infinity);
    for (const { at, next } of records) {
      for (const part of isKnown ? [all, rest] : [all]) {
        part.items++;
        part.oldestAt ??= at;
      }
      offset = next;
      isKnown ||= offset === since;
    }
    if (!isWhole || offset >= size) break;
  }
  if (offset < size) await truncate(path, offset);
  const segment = { number, path, bytes: offset };
  return { segment, ...(isKnown ? rest : all), cutBytes: size - offset };
}

async function beginning(path: string): Promise<{ size: number; begins: Buffer }> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(mark.length), 0, mark.length, 0);
    return { size, begins: buffer.subarray(0, bytesRead) };
  } finally {
    await file.close();
  }
}

async function readAt(path: string, from: number, length: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, from);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
