import type { UserMessage } from "../../shared/channels/contract.ts";
import type { Session } from "../sessions/session.ts";

/** A newer connection has claimed the session. */
export function replaced(sessions: readonly Session[], message: UserMessage & { kind: "replaced" }): void {
  for (const session of sessions) if (session.id === message.sessionId) session.noticeClaim(message.claim);
}
