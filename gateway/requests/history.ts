import { TidegateError } from "../../shared/errors.ts";
import type { History } from "../../shared/protocol/client-messages.ts";
import { readPage } from "../../shared/channels/history-page.ts";
import type { GatewayContext } from "../context.ts";
import type { Session } from "../sessions/session.ts";
import type { Reply } from "./reply.ts";

/** What is kept of a channel that the session follows. */
export async function history(session: Session, request: History, context: GatewayContext): Promise<Reply> {
  const { channel } = request;
  if (!session.subscriptions.get(channel)?.live) {
    throw new TidegateError("not_subscribed", `subscribe to ${channel} first`);
  }
  const retention = context.currentRules.rules.namespace(channel);
  const reaching = await context.channels.position(channel);
  return { ack: await readPage(context.broker, { ...request, retention, reaching }) };
}
