import type { UserMessage } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Subscribed } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../node/context.ts";
import { eventFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";
import { grantChannel } from "../subscriptions/access.ts";
import { beginSubscription } from "../subscriptions/begin.ts";

/** Subscribes the user's sessions to a channel, by a grant. */
export function subscribe(
  sessions: readonly Session[],
  { channel }: UserMessage & { kind: "subscribe" },
  context: GatewayContext,
): void {
  for (const session of sessions) {
    context.errors.contain("store", () => subscribeSession(session, channel, context));
  }
}

/** Without effect where the session is subscribed already, or has too many channels. */
async function subscribeSession(session: Session, channel: string, context: GatewayContext): Promise<void> {
  const own = session.subscriptions.get(channel);
  if (!session.welcomed || session.endedBy || session.disposed || session.moved || own?.access) return;
  const at = session.permissions.dateGrant(channel, context.sessionStore.now());
  const access = grantChannel(session, { channel, at }, context);
  if (own) {
    // Its client has requested the channel, and that is not decided yet: the ack tells it.
    own.access = access;
    return;
  }
  try {
    const request = { channel, authorize: () => access };
    const { subscription, ack, goLive } = await beginSubscription(session, request, context);
    if (subscription.ended) return;
    const notice: Subscribed = { channel, position: ack.position, grant: access.sealed };
    session.outbox.send(eventFrame("sync:subscribed", notice));
    goLive();
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    const level = error.code === "too_many_channels" ? "warn" : "debug";
    context.logger[level]({ err: error, channel, sessionId: session.id }, "a session could not be subscribed");
  }
}
