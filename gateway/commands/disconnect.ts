import type { UserMessage } from "../../shared/channels/contract.ts";
import type { Session } from "../sessions/session.ts";

/** Ends all of the user's sessions, or one. */
export function disconnect(sessions: readonly Session[], message: UserMessage & { kind: "disconnect" }): void {
  const { reason, reconnect, sessionId } = message;
  for (const session of sessions) {
    if (sessionId === undefined || session.id === sessionId) session.end("disconnected", reason, { reconnect });
  }
}
