/** Asks the connect hook what a client may do: when it connects, with each newer token, and when a service requests it. */
import { TidegateError } from "../../shared/runtime/errors.ts";
import { type IdentityKey, identityKey } from "../../shared/protocol/identity-key.ts";
import { hookRefusalStatus, readHookGrant } from "../../shared/protocol/relay.ts";
import { connectHookGrants, type Revocation } from "../../shared/sessions/contract.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import type { Credentials } from "../sessions/authentication.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { revokeLost } from "./end.ts";

export type HookDecision =
  | { kind: "granted"; channels: readonly string[]; info?: unknown }
  /** Final. `code`: the hook's own, or `forbidden`. */
  | { kind: "refused"; code: string; message: string; requestId?: string }
  | { kind: "undecided"; requestId?: string };

/** @param asking.withinMs the hook has this long, or the time of its service where that is less */
export async function askConnectHook(
  asking: { identity: Identity; address: string; userAgent: string; withinMs?: number },
  { currentRules, relay }: GatewayContext,
): Promise<HookDecision> {
  const service = currentRules.rules.hook("connect");
  if (!service) return { kind: "granted", channels: [] };
  const { identity, address, userAgent, withinMs = Infinity } = asking;
  const result = await relay.ask({
    kind: "connect",
    eventId: eventId(identityKey(identity)),
    identity,
    address,
    userAgent,
    traceparent: newTraceparent(),
    timeoutMs: Math.min(service.timeoutMs, withinMs),
  });
  if (result.ok) {
    const grant = readHookGrant(result.data);
    return grant ? { kind: "granted", channels: [], ...grant } : { kind: "undecided" };
  }
  const { code, message, status, requestId } = result.error;
  const known = withRequestId({ requestId });
  return status === hookRefusalStatus ? { kind: "refused", code, message, ...known } : { kind: "undecided", ...known };
}

/** A member for an error, where the request is known: the log has a line with it. */
export function withRequestId({ requestId }: { requestId?: string | undefined }): { requestId?: string } {
  return requestId === undefined ? {} : { requestId };
}

/** For a session that has begun. @param credentials those that it has, or newer ones of the same user */
export async function askConnectHookAgain(
  session: Session,
  credentials: Credentials,
  context: GatewayContext,
  withinMs = Infinity,
): Promise<HookDecision & { question: number }> {
  const { user, tenant, claims } = credentials;
  const identity = { user, sessionId: session.id, ...(tenant !== undefined && { tenant }), claims };
  const question = session.permissions.nextQuestion();
  const decision = await askConnectHook({ identity, address: session.address, userAgent: "", withinMs }, context);
  return { ...decision, question };
}

/**
 * Replaces what the hook granted before. Where it grants less, earlier resume tokens do not bring the rest back.
 * @returns false where the answer to a later question counts
 */
export async function applyHookGrant(
  session: Session,
  { channels, question }: { channels: readonly string[]; question: number },
  context: GatewayContext,
): Promise<boolean> {
  if (grantsLess(channels, session.permissions.grantedChannels)) await withdrawHookGrants(session.identityKey, context);
  return session.permissions.grantChannels(channels, question);
}

/** Applies the decision about a session that has begun. Without a decision it keeps what it had. */
export async function applyHookDecision(
  session: Session,
  decision: HookDecision & { question: number },
  context: GatewayContext,
): Promise<void> {
  switch (decision.kind) {
    case "undecided":
      return;
    case "refused":
      await forbidResume(session, context);
      session.end("revoked", decision.message, { reconnect: false });
      return;
    case "granted":
      await applyHookGrant(session, decision, context);
      revokeLost(session, "the connect hook does not allow it any more", context);
  }
}

/** For a session that has begun, before its welcome: asks the hook again where its grants were withdrawn after `grantedAt`. */
export async function renewHookGrants(
  session: Session,
  { grantedAt, withinMs }: { grantedAt: number; withinMs: number },
  context: GatewayContext,
): Promise<void> {
  if (!session.permissions.isWithdrawn(connectHookGrants, grantedAt)) return;
  const decision = await askConnectHookAgain(session, session.credentials, context, withinMs);
  // The next resume asks again.
  if (decision.kind === "undecided") session.succession.confirm(grantedAt);
  else await applyHookDecision(session, decision, context);
}

export function grantsLess(channels: readonly string[], before: readonly string[]): boolean {
  return before.some((pattern) => !channels.includes(pattern));
}

/**
 * Once this resolves, the hook is asked before a session of the user resumes with an older resume token.
 * @returns the date by the store's clock; undefined: the store is away
 */
export async function withdrawHookGrants(user: IdentityKey, context: GatewayContext): Promise<number | undefined> {
  const revocation = { kind: "grant", channel: connectHookGrants } as const;
  return revoke(user, revocation, "resume tokens still hold what the connect hook does not grant any more", context);
}

/** The client keeps resume tokens of the session: once this resolves none of them is valid, unless the store is away. */
export async function forbidResume(
  { id: sessionId, identityKey }: Pick<Session, "id" | "identityKey">,
  context: GatewayContext,
): Promise<void> {
  const revocation = { kind: "session", sessionId } as const;
  await revoke(identityKey, revocation, "the resume tokens of a refused session stay valid", context);
}

/** @param warning for the log, where the store is away. */
async function revoke(
  user: IdentityKey,
  revocation: Revocation,
  warning: string,
  { sessionStore, logger }: GatewayContext,
): Promise<number | undefined> {
  try {
    return await sessionStore.revoke(user, revocation);
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    logger.warn({ err: error, ...revocation }, warning);
    return undefined;
  }
}
