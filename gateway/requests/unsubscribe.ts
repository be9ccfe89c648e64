import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Unsubscribe } from "../../shared/protocol/client-messages.ts";
import type { GatewayContext } from "../node/context.ts";
import { endSubscription } from "../subscriptions/end.ts";
import type { Session } from "../sessions/session.ts";
import { announcementPrice } from "./prices.ts";
import type { Reply } from "./reply.ts";

export async function unsubscribe(session: Session, { channel }: Unsubscribe, context: GatewayContext): Promise<Reply> {
  const leaves = context.presence.isAnnounced(session, channel);
  if (!endSubscription(session, channel, context)) {
    throw new TidegateError("not_subscribed", `there is no subscription to ${channel}`);
  }
  return { ack: {}, surcharge: leaves ? announcementPrice : 0 };
}
