import { TidegateError } from "../shared/errors.ts";
import { isRequestCode } from "../shared/protocol/codes.ts";
import { matchesPattern } from "../shared/protocol/grammar.ts";
import { newTraceparent } from "../shared/http/traceparent.ts";
import type { GatewayContext } from "./context.ts";
import type { Session } from "./session.ts";
import type { AllowedBy } from "./subscription.ts";

/** May this session follow the channel? By its token, its namespace, or the subscribe hook, in this order. */
export async function allowChannel(session: Session, channel: string, context: GatewayContext): Promise<AllowedBy> {
  if (session.channelPatterns.some((pattern) => matchesPattern(pattern, channel))) return "token";
  const { rules } = context.currentRules;
  if (rules.namespace(channel).access === "user") return "namespace";
  const service = rules.hook("subscribe");
  if (!service) throw new TidegateError("channel_not_allowed", `the token does not allow ${channel}`);
  const { identity } = session;
  const result = await context.relay.ask({
    kind: "subscribe",
    channel,
    identity,
    traceparent: newTraceparent(),
    timeoutMs: service.timeoutMs,
  });
  if (result.ok) return "hook";
  const { code, message, retryAfterMs } = result.error;
  throw new TidegateError(isRequestCode(code) ? code : "upstream_unavailable", message, { retryAfterMs });
}
