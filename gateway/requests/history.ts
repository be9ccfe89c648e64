import { TidegateError } from "../../shared/runtime/errors.ts";
import type { History } from "../../shared/protocol/client-messages.ts";
import { maxReplayBytes } from "../../shared/protocol/limits.ts";
import { readPage } from "../../shared/channels/history-page.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import type { Reply } from "./reply.ts";

/** What is kept of a channel that the session follows. */
export async function history(session: Session, request: History, context: GatewayContext): Promise<Reply> {
  const { channel } = request;
  assertSubscribed(session, channel);
  const endRead = await session.reads.take();
  let readBytes = 0;
  try {
    assertSubscribed(session, channel);
    const retention = context.currentRules.rules.namespace(channel);
    const reaching = await context.channels.position(channel);
    // A page that turns out not to be what was asked for was read all the same.
    readBytes = maxReplayBytes;
    const { position, publications } = await readPage(context.broker, { ...request, retention, reaching });
    return { ack: { position }, publications, afterAck: endRead };
  } catch (error) {
    endRead(readBytes);
    throw error;
  }
}

/** @throws TidegateError also where the session has ended. */
export function assertSubscribed(session: Session, channel: string): void {
  if (session.endedBy || !session.subscriptions.get(channel)?.live) {
    throw new TidegateError("not_subscribed", `subscribe to ${channel} first`);
  }
}
