/** Arithmetic on channel positions. No I/O. */
import type { Position, SubscribeAck } from "../../../shared/protocol/wire.ts";

/** The position after a publication; `null` if it lies at or before `position`. */
export function advance(position: Position, offset: number): Position | null {
  return offset > position.offset ? { epoch: position.epoch, offset } : null;
}

/** Where the publications of an ack begin: at the position presented if the gateway recovered it, else at offset 0. */
export function replayStart(presented: Position | null, ack: SubscribeAck): Position {
  const { epoch } = ack.position;
  return ack.recovered && presented?.epoch === epoch ? presented : { epoch, offset: 0 };
}

export function sameHistory(one: Position, other: Position | null): boolean {
  return one.epoch === other?.epoch;
}

/** Whether a stream at `at` brings every publication after `position`. */
export function bridges(at: Position | null, position: Position | null): boolean {
  return at !== null && position !== null && sameHistory(at, position) && at.offset <= position.offset;
}

/** `next`, unless it lies behind `position` in the same history. */
export function furthest(position: Position | null, next: Position): Position {
  return position && bridges(next, position) ? position : next;
}
