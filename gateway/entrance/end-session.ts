import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { endSubscription } from "../subscriptions/end.ts";

/** Removes a session whose connection has closed from this node, however it ended. Idempotent. */
export function endSession(session: Session, timedOut: boolean, context: GatewayContext): void {
  if (session.disposed) return;
  const { presence, holdings, sessions, metrics } = context;
  const { moved } = session;
  const ending = session.ending(timedOut ? "ping_timeout" : "connection_lost");
  presence.leaveAll(session);
  for (const channel of [...session.subscriptions.keys()]) endSubscription(session, channel, context);
  sessions.remove(session);
  session.dispose();
  if (session.held.claim > 0) holdings.end(session.stored, ending);
  const reason = session.endedBy ?? (moved ? "moved" : timedOut ? "ping_timeout" : "client");
  if (session.welcomed) metrics.disconnects.inc({ reason });
}
