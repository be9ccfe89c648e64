/** From a position to the present by way of history: what a follower missed, or why that cannot be told. Pure. */
import type { HistorySlice, Position, Publication } from "../shared/channels/broker.ts";
import type { RecoveryReason } from "../shared/protocol/codes.ts";

export type Bridge =
  { kind: "bridged"; publications: Publication[]; position: Position } | { kind: "broken"; reason: RecoveryReason };

/**
 * @param from where the follower stands.
 * @param slice read after `from.offset`. Where it says `more`, the bridge ends at its last publication.
 */
export function bridge(from: Position, slice: HistorySlice): Bridge {
  const { position } = slice;
  if (from.epoch !== position.epoch) return { kind: "broken", reason: "epoch_changed" };
  if (from.offset > position.offset) return { kind: "broken", reason: "position_ahead" };
  let reached = from.offset;
  const publications = slice.publications.filter((publication) => publication.offset > from.offset);
  for (const publication of publications) {
    if (publication.prev > reached) return { kind: "broken", reason: "history_trimmed" };
    // The history goes on from before the follower's offset: that offset was never in it.
    if (publication.prev < reached) return { kind: "broken", reason: "position_ahead" };
    reached = publication.offset;
  }
  if (!slice.more && reached !== position.offset) return { kind: "broken", reason: "history_trimmed" };
  return { kind: "bridged", publications, position: { epoch: position.epoch, offset: reached } };
}
