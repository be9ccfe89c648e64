import type { UserMessage } from "../../shared/channels/contract.ts";
import { userFrame } from "../outbox/frames.ts";
import type { Session } from "../sessions/session.ts";

/** Every session gets the event, on one of its connections. */
export function send(sessions: readonly Session[], { event, data }: UserMessage & { kind: "send" }): void {
  const frame = userFrame(event, data);
  for (const session of sessions) if (session.succession.takesUserMessages) session.outbox.send(frame);
}
