/** The cursor of a pull: a place in every slot, as opaque text. Pure. */
import type { Place, ReadFrom } from "../../shared/changes/contract.ts";
import { crc16, slotCount } from "../../shared/redis/slots.ts";

export interface PullCursor {
  /** Where slots without a place begin: Unix ms, inclusive; 0: at the oldest change kept. */
  readonly since: number;
  readonly places: ReadonlyMap<number, Place>;
  /** The slot that is read first. */
  readonly turn: number;
}

export const maxCursorLength = 6_144;
const version = 1;
/** Past any clock, and small enough that sums stay exact. */
export const maxTime = 2 ** 48;

export function placeIn({ places, since }: PullCursor, slot: number): ReadFrom {
  const place = places.get(slot);
  if (place !== undefined) return { kind: "after", place };
  return since === 0 ? { kind: "start" } : { kind: "time", at: since };
}

/** Times are written as differences from the earliest, so that most take three or four bytes. */
export function formatCursor({ since, places, turn }: PullCursor): string {
  const sorted = [...places].sort(([one], [other]) => one - other).map(([slot, place]) => ({ slot, ...parts(place) }));
  const times = sorted.map(({ time }) => time).filter((time) => time > 0);
  const earliest = times.length > 0 ? Math.min(...times) : 0;
  const numbers = [version, turn, since, earliest, sorted.length];
  let before = -1;
  for (const { slot, time, number } of sorted) {
    numbers.push(slot - before - 1, time === 0 ? 0 : time - earliest + 1, number);
    before = slot;
  }
  const bytes = Buffer.from(numbers.flatMap(varint));
  const check = crc16(bytes.toString("latin1"));
  return Buffer.concat([bytes, Buffer.from([check >> 8, check & 0xff])]).toString("base64url");
}

/** @returns undefined for everything that {@link formatCursor} does not write. */
export function parseCursor(text: string): PullCursor | undefined {
  if (text.length > maxCursorLength || !/^[A-Za-z0-9_-]+$/.test(text)) return undefined;
  const numbers = readVarints(Buffer.from(text, "base64url").subarray(0, -2));
  const [first, turn = slotCount, since = maxTime, earliest = maxTime, count = -1, ...entries] = numbers;
  if (first !== version || turn >= slotCount || since >= maxTime || earliest >= maxTime) return undefined;
  if (entries.length !== count * 3) return undefined;
  const places = new Map<number, Place>();
  let slot = -1;
  for (let at = 0; at < entries.length; at += 3) {
    const [skipped = 0, time = 0, number = 0] = entries.slice(at, at + 3);
    slot += skipped + 1;
    if (slot >= slotCount || time >= maxTime || !Number.isSafeInteger(number)) return undefined;
    places.set(slot, `${time === 0 ? 0 : earliest + time - 1}-${number}`);
  }
  const cursor = { since, places, turn };
  return formatCursor(cursor) === text ? cursor : undefined;
}

function parts(place: Place): { time: number; number: number } {
  const at = place.indexOf("-");
  return { time: Number(place.slice(0, at)), number: Number(place.slice(at + 1)) };
}

/** Seven bits a byte, the lowest first; all but the last have the high bit. */
function varint(number: number): number[] {
  const bytes: number[] = [];
  let rest = number;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return bytes;
}

/** Leaves out a last number that is cut off. */
function readVarints(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  let number = 0;
  let unit = 1;
  for (const byte of bytes) {
    number += (byte & 0x7f) * unit;
    if (byte >= 0x80) unit *= 0x80;
    else {
      numbers.push(number);
      [number, unit] = [0, 1];
    }
  }
  return numbers;
}
