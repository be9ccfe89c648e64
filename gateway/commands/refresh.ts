import type { GatewayContext } from "../node/context.ts";
import { eventFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";
import { applyHookDecision, askConnectHookAgain } from "../subscriptions/connect-hook.ts";

/** Asks the connect hook again for each of the user's sessions, and each client for a newer token. */
export function refresh(sessions: readonly Session[], context: GatewayContext): void {
  for (const session of sessions) {
    if (session.disposed || session.moved) continue;
    session.outbox.send(eventFrame("sync:refresh", {}));
    context.errors.contain("store", () => refreshSession(session, context));
  }
}

async function refreshSession(session: Session, context: GatewayContext): Promise<void> {
  const { credentials } = session;
  const decision = await askConnectHookAgain(session, credentials, context);
  // Meanwhile the client presented a newer token, and the hook may have answered for it before this request.
  if (decision.kind === "granted" && session.credentials !== credentials) return refreshSession(session, context);
  await applyHookDecision(session, decision, context);
}
