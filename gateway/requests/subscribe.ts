import type { Subscribe } from "../../shared/protocol/client-messages.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { authorizeSubscribe } from "../subscriptions/access.ts";
import { beginSubscription } from "../subscriptions/begin.ts";
import { announcementPrice } from "./prices.ts";
import type { Reply } from "./reply.ts";

/** Begins, or replaces, the session's subscription to a channel; with a position, from there. */
export async function subscribe(session: Session, request: Subscribe, context: GatewayContext): Promise<Reply> {
  const { ack, publications, joins, goLive } = await beginSubscription(
    session,
    {
      channel: request.channel,
      from: request.position ?? undefined,
      authorize: () => authorizeSubscribe(session, request, context),
    },
    context,
  );
  return { ack, publications, surcharge: joins ? announcementPrice : 0, afterAck: goLive };
}
