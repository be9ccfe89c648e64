import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Refresh } from "../../shared/protocol/client-messages.ts";
import type { RefreshAck } from "../../shared/protocol/wire.ts";
import { authenticate, type Credentials, isSameClient } from "../sessions/authentication.ts";
import { extendGrant } from "../subscriptions/access.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import type { Reply } from "./reply.ts";
import { applyHookGrant, askConnectHookAgain, forbidResume } from "../subscriptions/connect-hook.ts";
import { revokeLost } from "../subscriptions/end.ts";

/** The connect hook refuses the client: the session ends once the client has the error. */
export class SessionRefused extends TidegateError {}

/** Gives the session a new token, and revokes subscriptions that only the old one allowed. The connect hook is asked again. */
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
  // A client may present the token that it has.
  if (credentials.tokenId !== session.credentials.tokenId) await checkWithHook(session, credentials, context);
  session.renew(credentials);
  const resumeToken = context.resumeTokens.seal(session.resumable);
  const grants = renewGrants(session, context);
  const ack: RefreshAck = { expiresAt: session.expiresAt, resumeToken, ...(grants && { grants }) };
  return { ack, afterAck: () => revokeLost(session, "the new token does not allow it", context) };
}

/** @throws TidegateError where the hook refuses, or does not decide: then the session keeps its token */
async function checkWithHook(session: Session, credentials: Credentials, context: GatewayContext): Promise<void> {
  const decision = await askConnectHookAgain(session, credentials, context);
  switch (decision.kind) {
    case "granted":
      if (await applyHookGrant(session, decision, context)) return;
      throw new TidegateError("upstream_unavailable", "the connect hook was asked again meanwhile: refresh once more");
    case "refused": {
      const { code, message, requestId } = decision;
      await forbidResume(session, context);
      throw new SessionRefused("forbidden", message, { serviceCode: code, requestId });
    }
    case "undecided": {
      const { requestId } = decision;
      throw new TidegateError("upstream_unavailable", "the connect hook gave no decision", { requestId });
    }
  }
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
