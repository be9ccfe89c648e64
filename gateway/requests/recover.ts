import type { Position } from "../../shared/channels/broker.ts";
import { toWirePublication } from "../../shared/channels/history-page.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../context.ts";
import type { Subscription } from "../channels/subscription.ts";

/** Where a subscription that has joined its channel begins, and what it missed since the position it was given. */
export async function recover(
  subscription: Subscription,
  from: Position | undefined,
  context: GatewayContext,
): Promise<SubscribeAck> {
  const { channel } = subscription;
  const { channels, metrics } = context;
  if (!from) {
    const position = await channels.position(channel);
    subscription.settle();
    return { channel, position, recovered: false, publications: [] };
  }
  const { way, source } = await channels.catchUp(channel, from);
  const now = await channels.position(channel);
  const reason = way.kind === "broken" ? way.reason : subscription.brokenAfter(way.position, now);
  metrics.recoveries.inc({ outcome: reason ?? source });
  subscription.settle();
  if (way.kind === "broken" || reason) {
    return { channel, position: now, recovered: false, ...(reason && { reason }), publications: [] };
  }
  return { channel, position: way.position, recovered: true, publications: way.publications.map(toWirePublication) };
}
