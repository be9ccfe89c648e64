import type { UserMessage } from "../../shared/channels/contract.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { revokeSubscription } from "../subscriptions/end.ts";

/** Withdraws the user's grants of the channel, and revokes the subscriptions to it. */
export function unsubscribe(
  sessions: readonly Session[],
  { channel, at }: UserMessage & { kind: "unsubscribe" },
  context: GatewayContext,
): void {
  for (const session of sessions) {
    session.permissions.withdraw(new Map([[channel, at]]));
    revokeSubscription(session, channel, "unsubscribed by the application", context);
  }
}
