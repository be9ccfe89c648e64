import { TidegateError } from "../../shared/errors.ts";
import type { Unsubscribe } from "../../shared/protocol/client-messages.ts";
import type { GatewayContext } from "../context.ts";
import type { Session } from "../session.ts";
import type { Reply } from "./reply.ts";

export async function unsubscribe(session: Session, request: Unsubscribe, context: GatewayContext): Promise<Reply> {
  if (!endSubscription(session, request.channel, context)) {
    throw new TidegateError("not_subscribed", `there is no subscription to ${request.channel}`);
  }
  return { ack: {} };
}

/** @returns whether there was one. */
export function endSubscription(session: Session, channel: string, context: GatewayContext): boolean {
  const subscription = session.subscriptions.get(channel);
  if (!subscription) return false;
  session.subscriptions.delete(channel);
  subscription.end();
  context.channels.leave(channel, subscription);
  return true;
}
