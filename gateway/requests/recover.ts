import type { HistorySlice, Position } from "../../shared/channels/broker.ts";
import { toWirePublication } from "../../shared/channels/history-page.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../context.ts";
import { type Bridge, bridge } from "../recovery.ts";
import type { Subscription } from "../subscription.ts";

/** Where a subscription that has joined its channel begins, and what it missed since the position it was given. */
export async function recover(
  subscription: Subscription,
  from: Position | undefined,
  context: GatewayContext,
): Promise<SubscribeAck> {
  const { channel } = subscription;
  const { channels } = context;
  const start = await channels.position(channel);
  if (!from) return { channel, position: start, recovered: false, publications: [] };
  if (from.epoch === start.epoch && from.offset === start.offset) {
    return { channel, position: start, recovered: true, publications: [] };
  }
  const slice = await channels.readHistory(channel, {
    after: from.offset,
    epoch: from.epoch,
    limit: maxReplayPublications,
    maxBytes: maxReplayBytes,
  });
  const now = await channels.position(channel);
  const way = bridgeWithin(from, slice);
  const reason = way.kind === "broken" ? way.reason : subscription.brokenAfter(way.position, now);
  if (way.kind === "broken" || reason) {
    return { channel, position: now, recovered: false, ...(reason && { reason }), publications: [] };
  }
  return { channel, position: way.position, recovered: true, publications: way.publications.map(toWirePublication) };
}

/** As bridge, but one read has to be enough: more is too far behind. */
function bridgeWithin(from: Position, slice: HistorySlice): Bridge {
  const way = bridge(from, slice);
  return way.kind === "bridged" && slice.more ? { kind: "broken", reason: "too_far_behind" } : way;
}
