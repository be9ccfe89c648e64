import { TidegateError } from "../../shared/runtime/errors.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import { isRequestCode } from "../../shared/protocol/codes.ts";
import type { Subscribe } from "../../shared/protocol/client-messages.ts";
import { hookRefusalStatus, readHookGrant } from "../../shared/protocol/relay.ts";
import type { Access } from "../channels/subscription.ts";
import type { GatewayContext } from "../node/context.ts";
import { isSameClient } from "../sessions/authentication.ts";
import { resumableUntil } from "../sessions/resume-token.ts";
import type { Session } from "../sessions/session.ts";

type Granted = Access & { by: "grant" };

/**
 * Whether the session may follow the channel: by its token, the namespace, a grant or the subscribe hook, in this order.
 * @param request loses its grant, up to 16 KiB that must not wait in memory for a hook or a replay.
 * @throws TidegateError `channel_not_allowed`, or why the hook did not decide.
 */
export async function authorizeSubscribe(
  session: Session,
  request: Subscribe,
  context: GatewayContext,
): Promise<Access> {
  const { channel } = request;
  const access = accessWithoutHook(session, request, context);
  request.grant = null;
  if (access) return access;
  const service = context.currentRules.rules.hook("subscribe");
  if (!service) throw new TidegateError("channel_not_allowed", `the token does not allow ${channel}`);
  const { identity } = session;
  // Dated before the hook is asked: a withdrawal in the meantime counts.
  const at = session.permissions.dateGrant(channel, context.sessionStore.now());
  const result = await context.relay.ask({
    kind: "subscribe",
    channel,
    eventId: eventId(session.identityKey),
    identity,
    traceparent: newTraceparent(),
    timeoutMs: service.timeoutMs,
  });
  if (result.ok) {
    const info = readHookGrant(result.data)?.info;
    return grantChannel(session, { channel, at, info }, context);
  }
  const { code, message, status, retryAfterMs, requestId } = result.error;
  const more = { retryAfterMs, requestId };
  if (status === hookRefusalStatus) {
    throw new TidegateError("channel_not_allowed", message, { ...more, serviceCode: code });
  }
  throw new TidegateError(isRequestCode(code) ? code : "upstream_unavailable", message, more);
}

/** @throws TidegateError where the session has no live subscription to the channel, or has ended. */
export function assertSubscribed(session: Session, channel: string): void {
  if (session.endedBy || !session.subscriptions.get(channel)?.live) {
    throw new TidegateError("not_subscribed", `subscribe to ${channel} first`);
  }
}

/** @param granted.at Unix ms by the store's clock, not later than the decision. */
export function grantChannel(
  session: Session,
  { channel, at, info }: { channel: string; at: number; info?: unknown },
  context: GatewayContext,
): Granted {
  const until = resumableUntil(session.credentials, Date.now());
  const { user, tenant } = session.credentials;
  const visible = info === undefined ? {} : { info };
  const sealed = context.grants.seal({ user, ...(tenant !== undefined && { tenant }), channel, at, until, ...visible });
  return { by: "grant", at, until, sealed, ...visible };
}

/** Extends a grant to the life of the session's token; the same grant where that is not longer. */
export function extendGrant(session: Session, channel: string, granted: Granted, context: GatewayContext): Granted {
  if (resumableUntil(session.credentials, Date.now()) <= granted.until) return granted;
  return grantChannel(session, { channel, at: granted.at, info: granted.info }, context);
}

/** Undefined where only the subscribe hook can decide. */
function accessWithoutHook(
  session: Session,
  { channel, grant: sealed }: Subscribe,
  context: GatewayContext,
): Access | undefined {
  if (session.permissions.allows(channel)) return { by: "token" };
  if (context.currentRules.rules.namespace(channel).access === "user") return { by: "namespace" };
  if (sealed === undefined || sealed === null) return undefined;
  const grant = context.grants.open(sealed);
  const own = grant !== undefined && isSameClient(grant, session.credentials) && grant.channel === channel;
  if (!own || session.permissions.isWithdrawn(channel, grant.at)) return undefined;
  const { at, until, info } = grant;
  const granted = { by: "grant", at, until, sealed, ...(info !== undefined && { info }) } as const;
  return extendGrant(session, channel, granted, context);
}
