/** Where a subscriber stands in a channel. No I/O. */
import type { Position, SubscribeAck } from "../../../shared/protocol/wire.ts";

/** The position after a publication, or `null` where that publication was seen before. */
export function advance(position: Position, offset: number): Position | null {
  return offset > position.offset ? { epoch: position.epoch, offset } : null;
}

/**
 * The position that the publications of an ack go on from: the one presented, where the gateway recovered it;
 * otherwise the beginning of the ack's history.
 */
export function replayStart(presented: Position | null, ack: SubscribeAck): Position {
  const { epoch } = ack.position;
  return ack.recovered && presented?.epoch === epoch ? presented : { epoch, offset: 0 };
}

export function sameHistory(one: Position, other: Position | null): boolean {
  return one.epoch === other?.epoch;
}

/** Whether a stream of publications that stands at `at` will bring everything that follows `position`. */
export function bridges(at: Position | null, position: Position | null): boolean {
  return at !== null && position !== null && sameHistory(at, position) && at.offset <= position.offset;
}

/** `next`, but for a step back within one history. */
export function furthest(position: Position | null, next: Position): Position {
  return position && bridges(next, position) ? position : next;
}
