/** Marks of the publications that emits become: growing texts of one length, see `Mark` of shared/channels. Pure. */
import type { ShardLease } from "../../shared/sql-sources/contract.ts";
import type { CarriedEmit } from "./received-emit.ts";

const fenceDigits = 16;
const numberDigits = 12;
const timeDigits = 15;
const sequenceDigits = 13;
/** Of one emit to several rooms: enough for all that one emit may name. */
const indexDigits = 4;

/** Of the sequence: marks with an offset and marks without one are not comparable, nor are offsets of two fleets, whose clocks may differ. */
export function markName(
  { identity, fleetId }: { identity: string; fleetId: string },
  offset: string | undefined,
): string {
  return `bridge:${identity}:${offset === undefined ? "lease" : fleetId}`;
}

/**
 * With an offset in a stream, the same for whatever bridge reads the entry: it is published once. Without one they grow with the fence of the lease
 * and a number, so that a bridge whose lease has ended publishes nothing after the next one has.
 */
export function marksOf({
  emits,
  offset,
  lease,
  nextNumber,
}: {
  emits: readonly CarriedEmit[];
  offset: string | undefined;
  lease: Pick<ShardLease, "fence">;
  nextNumber: () => number;
}): string[] {
  const [time = "", sequence = ""] = offset?.split("-") ?? [];
  const base =
    offset === undefined
      ? padded(lease.fence, fenceDigits) + padded(nextNumber(), numberDigits)
      : padded(time, timeDigits) + padded(sequence, sequenceDigits);
  return emits.map((_, index) => base + padded(index, indexDigits));
}

function padded(number: number | string, digits: number): string {
  return String(number).padStart(digits, "0");
}
