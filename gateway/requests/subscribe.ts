import type { HistorySlice, Position } from "../../shared/channels/broker.ts";
import { toWirePublication } from "../../shared/channels/history-page.ts";
import { TidegateError } from "../../shared/errors.ts";
import type { Subscribe } from "../../shared/protocol/client-messages.ts";
import { maxChannelsPerConnection, maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import { allowChannel } from "../channel-access.ts";
import type { GatewayContext } from "../context.ts";
import { type Bridge, bridge } from "../recovery.ts";
import type { Session } from "../session.ts";
import { Subscription } from "../subscription.ts";
import type { Reply } from "./reply.ts";
import { dropSubscription, endSubscription } from "./unsubscribe.ts";

/** Starts, or replaces, the session's subscription to a channel; with a position, from there. */
export async function subscribe(session: Session, request: Subscribe, context: GatewayContext): Promise<Reply> {
  const { channel } = request;
  dropSubscription(session, channel, context);
  if (session.subscriptions.size >= maxChannelsPerConnection) {
    throw new TidegateError("too_many_channels", `a connection has at most ${maxChannelsPerConnection} channels`);
  }
  const subscription = new Subscription(channel, session.outbox);
  session.subscriptions.set(channel, subscription);
  try {
    const access = await allowChannel(session, channel, request.grant ?? undefined, context);
    subscription.access = access;
    assertWanted(subscription);
    await context.channels.join(channel, subscription);
    const ack = await recover(subscription, request.position ?? undefined, context);
    assertWanted(subscription);
    context.presence.enter(session, subscription);
    return {
      ack: { ...ack, ...(access.by === "grant" && { grant: access.sealed }) },
      afterAck: () => subscription.goLive(ack.position),
    };
  } catch (error) {
    if (session.subscriptions.get(channel) === subscription) endSubscription(session, channel, context);
    else context.channels.leave(channel, subscription);
    throw error;
  }
}

function assertWanted(subscription: Subscription): void {
  if (subscription.ended) {
    throw new TidegateError("not_subscribed", "the subscription was ended or replaced before it began");
  }
}

async function recover(
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
