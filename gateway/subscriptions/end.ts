import type { Revoked } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../node/context.ts";
import { eventFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";

/** The session leaves the channel. @returns whether it had a subscription. */
export function endSubscription(session: Session, channel: string, context: GatewayContext): boolean {
  context.presence.leave(session, channel);
  return dropSubscription(session, channel, context);
}

/** Ends a subscription that its client did not end, and notifies the client. */
export function revokeSubscription(session: Session, channel: string, reason: string, context: GatewayContext): void {
  if (!endSubscription(session, channel, context)) return;
  session.outbox.send(eventFrame("sync:revoked", { channel, reason } satisfies Revoked));
}

/** Revokes subscriptions that a service withdrew, whatever had allowed them. */
export function revokeWithdrawn(session: Session, context: GatewayContext): void {
  for (const { channel, access } of session.subscriptions.values()) {
    if (access?.by !== "grant" || !session.permissions.isWithdrawn(channel, access.at)) continue;
    revokeSubscription(session, channel, "the grant was withdrawn", context);
  }
  revokeLost(session, "unsubscribed by the application", context);
}

/** Revokes subscriptions that the token or the connect hook had allowed, and neither allows any more. */
export function revokeLost(session: Session, reason: string, context: GatewayContext): void {
  for (const { channel, access } of session.subscriptions.values()) {
    if (access?.by !== "token" || session.permissions.allows(channel)) continue;
    revokeSubscription(session, channel, reason, context);
  }
}

/** Ends deliveries; the session stays present in the channel. @returns whether it had a subscription. */
export function dropSubscription(session: Session, channel: string, context: GatewayContext): boolean {
  const subscription = session.subscriptions.get(channel);
  if (!subscription) return false;
  session.subscriptions.delete(channel);
  subscription.end();
  context.channels.leave(channel, subscription);
  return true;
}
