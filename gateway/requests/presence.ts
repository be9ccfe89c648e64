import { TidegateError } from "../../shared/errors.ts";
import type { Presence } from "../../shared/protocol/client-messages.ts";
import { readPresence } from "../../shared/sessions/read-presence.ts";
import type { GatewayContext } from "../context.ts";
import type { Session } from "../sessions/session.ts";
import type { Reply } from "./reply.ts";

/** Who is in a channel that the session follows. */
export async function presence(session: Session, { channel }: Presence, context: GatewayContext): Promise<Reply> {
  if (!session.subscriptions.get(channel)?.live) {
    throw new TidegateError("not_subscribed", `subscribe to ${channel} first`);
  }
  return { ack: await readPresence(context.sessionStore, channel, context.currentRules.rules) };
}
