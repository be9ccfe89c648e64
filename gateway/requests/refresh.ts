import { TidegateError } from "../../shared/errors.ts";
import type { Refresh } from "../../shared/protocol/client-messages.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import type { RefreshAck, Revoked } from "../../shared/protocol/wire.ts";
import { authenticate } from "../authentication.ts";
import type { GatewayContext } from "../context.ts";
import { eventFrame } from "../frames.ts";
import type { Session } from "../session.ts";
import type { Reply } from "./reply.ts";
import { endSubscription } from "./unsubscribe.ts";

/** A new token for the session. Subscriptions that only the old one allowed are revoked. */
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
  if (credentials.user !== session.user) {
    throw new TidegateError("unauthenticated", "the token is another user's: connect anew with it");
  }
  session.renew(credentials);
  const ack: RefreshAck = { expiresAt: session.expiresAt, resumeToken: null };
  return { ack, afterAck: () => revokeLost(session, context) };
}

function revokeLost(session: Session, context: GatewayContext): void {
  const patterns = session.channelPatterns;
  for (const { channel, allowedBy } of session.subscriptions.values()) {
    if (allowedBy !== "token" || patterns.some((pattern) => matchesPattern(pattern, channel))) continue;
    endSubscription(session, channel, context);
    const notice: Revoked = { channel, reason: "the new token does not allow it" };
    session.outbox.send(eventFrame("sync:revoked", notice));
  }
}
