/** Messages to a user's sessions, from the private API and from other nodes. */
import type { UserMessage } from "../../shared/channels/contract.ts";
import type { IdentityKey } from "../../shared/protocol/identity-key.ts";
import type { GatewayContext } from "../node/context.ts";
import { disconnect } from "./disconnect.ts";
import { refresh } from "./refresh.ts";
import { send } from "./send.ts";
import { subscribe } from "./subscribe.ts";
import { unsubscribe } from "./unsubscribe.ts";

export function onUserMessage(user: IdentityKey, message: UserMessage, context: GatewayContext): void {
  const sessions = context.sessions.ofUser(user);
  switch (message.kind) {
    case "send":
      return send(sessions, message);
    case "disconnect":
      return disconnect(sessions, message);
    case "replaced":
      return context.sessions.noticeClaim(user, message);
    case "subscribe":
      return subscribe(sessions, message, context);
    case "refresh":
      return refresh(sessions, context);
    case "unsubscribe":
      return unsubscribe(sessions, message, context);
  }
}
