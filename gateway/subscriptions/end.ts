import type { Revoked } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../node/context.ts";
import { eventFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";

/** The session leaves the channel. @returns whether there was a subscription. */
export function endSubscription(session: Session, channel: string, context: GatewayContext): boolean {
  context.presence.leave(session, channel);
  return dropSubscription(session, channel, context);
}

/** Ends it without a word of the client's. */
export function revokeSubscription(session: Session, channel: string, reason: string, context: GatewayContext): void {
  if (!endSubscription(session, channel, context)) return;
  session.outbox.send(eventFrame("sync:revoked", { channel, reason } satisfies Revoked));
}

/** Nothing is delivered by it any more; for others the session is still there. @returns whether there was one. */
export function dropSubscription(session: Session, channel: string, context: GatewayContext): boolean {
  const subscription = session.subscriptions.get(channel);
  if (!subscription) return false;
  session.subscriptions.delete(channel);
  subscription.end();
  context.channels.leave(channel, subscription);
  return true;
}
