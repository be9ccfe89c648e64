import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Refresh } from "../../shared/protocol/client-messages.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import type { RefreshAck } from "../../shared/protocol/wire.ts";
import { authenticate, isSameClient } from "../sessions/authentication.ts";
import { extendGrant } from "../subscriptions/access.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import type { Reply } from "./reply.ts";
import { revokeSubscription } from "../subscriptions/end.ts";

/** Gives the session a new token, and revokes subscriptions that only the old one allowed. */
export async function refresh(session: Session, request: Refresh, context: GatewayContext): Promise<Reply> {
  const authentication = await authenticate(context.verify, request.token);
  if (authentication.kind === "refused") {
    const { code, message, retryAfterMs } = authentication.refusal;
    if (code === "auth_unavailable") {
      throw new TidegateError("upstream_unavailable", message, { retryAfterMs });
    }
    throw new TidegateError("unauthenticated", message);
  }
  const { credentials } = authentication;
  if (!isSameClient(credentials, session.credentials)) {
    throw new TidegateError("unauthenticated", "the token is for another user or tenant: reconnect with it");
  }
  session.renew(credentials);
  const resumeToken = context.resumeTokens.seal(session.resumable);
  const grants = renewGrants(session, context);
  const ack: RefreshAck = { expiresAt: session.expiresAt, resumeToken, ...(grants && { grants }) };
  return { ack, afterAck: () => revokeLost(session, context) };
}

/** Grants last as long as the resume token. Undefined where the session has none. */
function renewGrants(session: Session, context: GatewayContext): Record<string, string> | undefined {
  const grants: [channel: string, grant: string][] = [];
  for (const subscription of session.subscriptions.values()) {
    const { channel, access } = subscription;
    if (access?.by !== "grant") continue;
    const extended = extendGrant(session, channel, access, context);
    subscription.access = extended;
    grants.push([channel, extended.sealed]);
  }
  return grants.length > 0 ? Object.fromEntries(grants) : undefined;
}

function revokeLost(session: Session, context: GatewayContext): void {
  const patterns = session.permissions.channelPatterns;
  for (const { channel, access } of session.subscriptions.values()) {
    if (access?.by !== "token" || patterns.some((pattern) => matchesPattern(pattern, channel))) continue;
    revokeSubscription(session, channel, "the new token does not allow it", context);
  }
}
