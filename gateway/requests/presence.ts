import type { Presence } from "../../shared/protocol/client-messages.ts";
import { readPresence } from "../../shared/sessions/read-presence.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { assertSubscribed } from "../subscriptions/access.ts";
import type { Reply } from "./reply.ts";

/** The sessions in a channel that the session follows. */
export async function presence(session: Session, { channel }: Presence, context: GatewayContext): Promise<Reply> {
  assertSubscribed(session, channel);
  const endRead = await session.reads.take();
  try {
    assertSubscribed(session, channel);
    const ack = await readPresence(context.sessionStore, channel, context.currentRules.rules);
    return { ack, afterAck: endRead };
  } catch (error) {
    endRead(0);
    throw error;
  }
}
