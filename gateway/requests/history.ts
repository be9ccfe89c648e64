import type { History } from "../../shared/protocol/client-messages.ts";
import { maxReplayBytes } from "../../shared/protocol/limits.ts";
import { readPage } from "../../shared/channels/history-page.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { assertSubscribed } from "../subscriptions/access.ts";
import type { Reply } from "./reply.ts";

/** A page of the history of a channel that the session follows. */
export async function history(session: Session, request: History, context: GatewayContext): Promise<Reply> {
  const { channel } = request;
  assertSubscribed(session, channel);
  const endRead = await session.reads.take();
  let readBytes = 0;
  try {
    assertSubscribed(session, channel);
    const retention = context.currentRules.rules.namespace(channel);
    const reaching = await context.channels.position(channel);
    // The session pays for a page that is read and then refused, too.
    readBytes = maxReplayBytes;
    const { position, publications } = await readPage(context.broker, { ...request, retention, reaching });
    return { ack: { position }, publications, afterAck: endRead };
  } catch (error) {
    endRead(readBytes);
    throw error;
  }
}
