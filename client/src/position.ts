/** Where a subscriber stands in a channel. No I/O. */
import type { Position, SubscribeAck } from "../../shared/protocol/wire.ts";

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
