import { TidegateError } from "../../shared/errors.ts";
import { newTraceparent } from "../../shared/http/traceparent.ts";
import { isRequestCode } from "../../shared/protocol/codes.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import { readHookGrant } from "../../shared/protocol/relay.ts";
import type { GatewayContext } from "../context.ts";
import { isSameClient } from "../sessions/authentication.ts";
import { resumableUntil } from "../sessions/resume-token.ts";
import type { Session } from "../sessions/session.ts";

/** Why a session may follow a channel, and what goes with it. */
export type Access =
  /** A token that is replaced can take it away again. */
  | { by: "token" | "namespace" }
  /** The grant was issued at `at`; withdrawn later it ends. `info`: what others see of the user there. */
  | { by: "grant"; sealed: string; at: number; info?: unknown };

/** May this session follow the channel? By its token, its namespace, a grant, or the subscribe hook, in this order. */
export async function allowChannel(
  session: Session,
  channel: string,
  sealedGrant: string | undefined,
  context: GatewayContext,
): Promise<Access> {
  if (session.channelPatterns.some((pattern) => matchesPattern(pattern, channel))) return { by: "token" };
  const { rules } = context.currentRules;
  if (rules.namespace(channel).access === "user") return { by: "namespace" };
  const granted = sealedGrant === undefined ? undefined : byGrant(session, channel, sealedGrant, context);
  if (granted) return granted;
  const service = rules.hook("subscribe");
  if (!service) throw new TidegateError("channel_not_allowed", `the token does not allow ${channel}`);
  const { identity } = session;
  // Dated before the question: a withdrawal in the meantime counts.
  const at = session.dateGrant(channel, context.sessionStore.now());
  const result = await context.relay.ask({
    kind: "subscribe",
    channel,
    identity,
    traceparent: newTraceparent(),
    timeoutMs: service.timeoutMs,
  });
  if (result.ok) {
    const info = readHookGrant(result.data)?.info;
    return grantChannel(session, { channel, at, info }, context);
  }
  const { code, message, retryAfterMs } = result.error;
  throw new TidegateError(isRequestCode(code) ? code : "upstream_unavailable", message, { retryAfterMs });
}

/** @param granted.at Unix ms by the store's clock, not later than the decision. */
export function grantChannel(
  session: Session,
  { channel, at, info }: { channel: string; at: number; info?: unknown },
  context: GatewayContext,
): Access & { by: "grant" } {
  const until = resumableUntil(session.credentials, Date.now());
  const { user, tenant } = session.credentials;
  const shown = info === undefined ? {} : { info };
  const sealed = context.grants.seal({ user, ...(tenant !== undefined && { tenant }), channel, at, until, ...shown });
  return { by: "grant", at, sealed, ...shown };
}

function byGrant(session: Session, channel: string, sealed: string, context: GatewayContext): Access | undefined {
  const grant = context.grants.open(sealed);
  const own = grant !== undefined && isSameClient(grant, session.credentials) && grant.channel === channel;
  if (!own || session.isWithdrawn(channel, grant.at)) return undefined;
  // With a newer token it lasts longer, too.
  if (resumableUntil(session.credentials, Date.now()) > grant.until) return grantChannel(session, grant, context);
  return { by: "grant", at: grant.at, sealed, ...(grant.info !== undefined && { info: grant.info }) };
}
