import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Subscribe } from "../../shared/protocol/client-messages.ts";
import { maxChannelsPerConnection } from "../../shared/protocol/limits.ts";
import { allowChannel } from "../subscriptions/access.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { Subscription } from "../channels/subscription.ts";
import { announcementPrice } from "./prices.ts";
import { recover } from "../subscriptions/recover.ts";
import type { Reply } from "./reply.ts";
import { dropSubscription, endSubscription } from "../subscriptions/end.ts";

/** Starts, or replaces, the session's subscription to a channel; with a position, from there. */
export async function subscribe(session: Session, request: Subscribe, context: GatewayContext): Promise<Reply> {
  const { channel } = request;
  dropSubscription(session, channel, context);
  if (session.subscriptions.size >= maxChannelsPerConnection) {
    throw new TidegateError("too_many_channels", `a connection has at most ${maxChannelsPerConnection} channels`);
  }
  const subscription = new Subscription(channel, session.outbox);
  session.subscriptions.set(channel, subscription);
  let endRead = (_bytes: number): void => undefined;
  try {
    const access = await allowChannel(session, request, context);
    subscription.access = access;
    assertWanted(subscription);
    // Before anything of the channel has to be held.
    if (request.position) endRead = await session.reads.take();
    assertWanted(subscription);
    await context.channels.join(channel, subscription);
    const { ack, publications, wastedBytes } = await recover(subscription, request.position ?? undefined, context);
    assertWanted(subscription);
    const wasAnnounced = context.presence.isAnnounced(session, channel);
    context.presence.enter(session, subscription);
    const joins = !wasAnnounced && context.presence.isAnnounced(session, channel);
    return {
      ack: { ...ack, ...(access.by === "grant" && { grant: access.sealed }) },
      publications,
      surcharge: joins ? announcementPrice : 0,
      afterAck: (bytes) => {
        context.channels.goLive(subscription, ack.position);
        endRead(bytes + wastedBytes);
      },
    };
  } catch (error) {
    endRead(0);
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
