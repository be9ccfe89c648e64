/** What a client missed between its position and the present, or why history cannot tell. Pure. */
import type { HistorySlice, Position, Publication } from "../../shared/channels/contract.ts";
import type { RecoveryReason } from "../../shared/protocol/codes.ts";

export type Bridge =
  { kind: "bridged"; publications: Publication[]; position: Position } | { kind: "broken"; reason: RecoveryReason };

/**
 * @param from where the client stands.
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
    // History continues from before the client's offset: that offset was never in it.
    if (publication.prev < reached) return { kind: "broken", reason: "position_ahead" };
    reached = publication.offset;
  }
  if (!slice.more && reached !== position.offset) return { kind: "broken", reason: "history_trimmed" };
  return { kind: "bridged", publications, position: { epoch: position.epoch, offset: reached } };
}

/** How a slice was read: the oldest after an offset, or the newest. Each up to what may be replayed at once. */
export type Reading = { kind: "after"; offset: number } | { kind: "newest" };

/**
 * As {@link bridge}, for one of several clients that share one read.
 * @returns undefined where only another read can tell.
 */
export function bridgeFromReading(from: Position, slice: HistorySlice, reading: Reading): Bridge | undefined {
  const { position, more, publications } = slice;
  const comparable = from.epoch === position.epoch && from.offset <= position.offset;
  if (!comparable) return bridge(from, slice);
  if (reading.kind === "after") {
    if (from.offset < reading.offset) return undefined;
    if (!more) return bridge(from, slice);
    return from.offset === reading.offset ? { kind: "broken", reason: "too_far_behind" } : undefined;
  }
  const begins = publications[0]?.prev ?? position.offset;
  if (from.offset < begins) return { kind: "broken", reason: more ? "too_far_behind" : "history_trimmed" };
  return bridge(from, { position, publications, more: false });
}
