/** What the private API, and other nodes, tell the sessions of a user. */
import type { UserMessage } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { IdentityKey } from "../../shared/protocol/identity-key.ts";
import { maxChannelsPerConnection } from "../../shared/protocol/limits.ts";
import type { Subscribed } from "../../shared/protocol/wire.ts";
import { grantChannel } from "../subscriptions/access.ts";
import type { GatewayContext } from "../node/context.ts";
import { eventFrame, userFrame } from "../outbox/frames.ts";
import { endSubscription, revokeSubscription } from "../subscriptions/end.ts";
import type { Session } from "../sessions/session.ts";
import { Subscription } from "../channels/subscription.ts";

export function onUserMessage(user: IdentityKey, message: UserMessage, context: GatewayContext): void {
  const sessions = context.sessions.ofUser(user);
  switch (message.kind) {
    case "send": {
      const frame = userFrame(message.event, message.data);
      for (const session of sessions) if (session.succession.takesUserMessages) session.outbox.send(frame);
      return;
    }
    case "disconnect": {
      const { reason, reconnect, sessionId } = message;
      const concerned = sessions.filter((session) => sessionId === undefined || session.id === sessionId);
      for (const session of concerned) session.end("disconnected", reason, { reconnect });
      return;
    }
    case "replaced":
      for (const session of sessions) if (session.id === message.sessionId) session.hearOf(message.claim);
      return;
    case "subscribe":
      for (const session of sessions) void subscribeFor(session, message.channel, context);
      return;
    case "unsubscribe":
      for (const session of sessions) {
        session.withdraw(new Map([[message.channel, message.at]]));
        revokeSubscription(session, message.channel, "unsubscribed by the application", context);
      }
  }
}

/** Subscriptions by grants that have been withdrawn meanwhile. */
export function endWithdrawn(session: Session, context: GatewayContext): void {
  for (const { channel, access } of session.subscriptions.values()) {
    if (access?.by !== "grant" || !session.isWithdrawn(channel, access.at)) continue;
    revokeSubscription(session, channel, "the grant was withdrawn", context);
  }
}

/** Without effect where the session has the channel, or no room for it. */
async function subscribeFor(session: Session, channel: string, context: GatewayContext): Promise<void> {
  const { subscriptions } = session;
  if (!session.welcomed || session.disposed || session.moved || subscriptions.has(channel)) return;
  if (subscriptions.size >= maxChannelsPerConnection) {
    context.logger.warn(
      { channel, sessionId: session.id },
      "a session has too many channels to be subscribed to one more",
    );
    return;
  }
  const subscription = new Subscription(channel, session.outbox);
  const access = grantChannel(
    session,
    { channel, at: session.dateGrant(channel, context.sessionStore.now()) },
    context,
  );
  subscription.access = access;
  subscriptions.set(channel, subscription);
  try {
    await context.channels.join(channel, subscription);
    const position = await context.channels.position(channel);
    if (subscription.ended) return context.channels.leave(channel, subscription);
    subscription.settle();
    context.presence.enter(session, subscription);
    const notice: Subscribed = { channel, position, grant: access.sealed };
    session.outbox.send(eventFrame("sync:subscribed", notice));
    context.channels.goLive(subscription, position);
  } catch (error) {
    if (subscriptions.get(channel) === subscription) endSubscription(session, channel, context);
    if (!(error instanceof TidegateError)) throw error;
    context.logger.debug({ err: error, channel }, "a session could not be subscribed");
  }
}
