/** May this connection become a session? By its resume token, or by its token and the connect hook. */
import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { type IdentityKey, identityKey } from "../../shared/protocol/identity-key.ts";
import { handshakeValidator } from "../../shared/protocol/client-messages.ts";
import type { ConnectCode, ConnectRefusal } from "../../shared/protocol/codes.ts";
import { maxTokenLength, protocolVersion } from "../../shared/protocol/limits.ts";
import { maxAuthBytes, oversizedAuth } from "./auth-bound.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { isPresentableInfo } from "../../shared/protocol/relay.ts";
import type { Claim } from "../../shared/sessions/contract.ts";
import {
  authenticate,
  type Credentials,
  isSameClient,
  maxRefusalLength,
  refuse,
  tokenIdOf,
  tokenTooLong,
  undecidedRetryMs,
} from "../sessions/authentication.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Resumable } from "../sessions/resume-token.ts";
import {
  askConnectHook,
  forbidResume,
  grantsLess,
  type HookDecision,
  withdrawHookGrants,
  withRequestId,
} from "../subscriptions/connect-hook.ts";

/** The least time that a resumed session has to refresh its token, however soon the token expires. */
const minResumedMs = 60_000;
/** By then, one of the user's sessions may have ended. */
const sessionsOfUserRetryMs = 10_000;

/** The client's `auth`, read: a token, a resume token, or both. */
export interface Handshake {
  kind: "read";
  token: string | undefined;
  /** Sealed by this fleet, and valid. */
  resumable: Resumable | undefined;
  /** The client moves to another node by itself when it is asked to. */
  moves: boolean;
  userAgent: string;
}

/** Enough to begin a session with. */
export interface Accepted {
  kind: "accepted";
  sessionId: string;
  credentials: Credentials;
  /** Of a token that the session had before. Unix ms. */
  issuedAt?: number | undefined;
  /** Patterns that the connect hook adds to the token's channels. */
  grantedChannels: readonly string[];
  /** Unix ms by the store's clock: the hook knew at least what services had requested by then. */
  grantedAt: number;
  /** Shown to others in presence. */
  info: unknown;
  /** The last claim on the session that resumes; undefined: a new session begins. */
  resumed: Claim | undefined;
  moves: boolean;
}

export type Refused = { kind: "refused"; refusal: ConnectRefusal };

export function refused(code: ConnectCode, message: string, retryAfterMs?: number): Refused {
  return { kind: "refused", refusal: refuse(code, message, retryAfterMs) };
}

export function tooLate(): Refused {
  return refused("auth_unavailable", "the connection could not be checked in time", undecidedRetryMs);
}

/** The part of the check that costs little and does no I/O. */
export function readHandshake(auth: unknown, userAgent: string, context: GatewayContext): Handshake | Refused {
  if (auth === oversizedAuth) return refused("unauthenticated", `auth is longer than ${maxAuthBytes} bytes of JSON`);
  if (!handshakeValidator.Check(auth)) {
    const { token } = Object(auth) as { token?: unknown };
    const isTooLong = typeof token === "string" && token.length > maxTokenLength;
    return refused("unauthenticated", isTooLong ? tokenTooLong : "auth must be { token, resume?, protocol?, moves? }");
  }
  if (auth.protocol !== undefined && auth.protocol !== protocolVersion) {
    return refused("unsupported_protocol", `this server speaks protocol ${protocolVersion}`);
  }
  const { token, resume, moves = false } = auth;
  const resumable = typeof resume === "string" ? context.resumeTokens.open(resume) : undefined;
  if (token === undefined && !resumable) return refused("unauthenticated", missingToken(Boolean(resume)));
  return { kind: "read", token, resumable, moves, userAgent };
}

function missingToken(triedToResume: boolean): string {
  return triedToResume ? "auth.resume is not valid any more, and auth.token is missing" : "auth.token is missing";
}

/** @param deadline by `performance.now()`: the connect hook has until then. */
export async function checkHandshake(
  handshake: Handshake,
  address: string,
  deadline: number,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  const { token, resumable, moves } = handshake;
  if (resumable && (token === undefined || tokenIdOf(token) === resumable.credentials.tokenId)) {
    return resume(resumable, resumable.credentials, moves);
  }
  if (token === undefined) return refused("unauthenticated", missingToken(true));
  const authentication = await authenticate(context.verify, token);
  if (authentication.kind === "accepted") {
    const { credentials } = authentication;
    const asking = { handshake, credentials, address, withinMs: Math.max(1, Math.floor(deadline - performance.now())) };
    // A session resumes only for the user and tenant that began it.
    return resumable && isSameClient(resumable.credentials, credentials)
      ? resumeWithNewerToken(resumable, asking, context)
      : askToBegin(asking, context);
  }
  const { refusal, expired } = authentication;
  const isFinal = !refusal.retryable || (expired && resumable && !isSameClient(expired, resumable.credentials));
  return resumable && !isFinal ? resume(resumable, resumable.credentials, moves) : { kind: "refused", refusal };
}

function resume(resumable: Resumable, given: Credentials, moves: boolean): Accepted {
  const { sessionId, claim, checkedAt, grantedChannels, info } = resumable;
  const credentials = { ...given, expiresAt: Math.max(given.expiresAt, Date.now() + minResumedMs) };
  const resumed = { claim, checkedAt };
  const granted = { grantedChannels, grantedAt: checkedAt };
  const issuedAt = given.tokenId === resumable.credentials.tokenId ? resumable.issuedAt : undefined;
  return { kind: "accepted", sessionId, credentials, issuedAt, ...granted, info, resumed, moves };
}

/** A client with a verified token, and the time that the connect hook has. */
interface Asking {
  handshake: Handshake;
  credentials: Credentials;
  address: string;
  withinMs: number;
}

/** Where the hook does not decide, the session resumes as it was: services that are down end no session. */
async function resumeWithNewerToken(
  resumable: Resumable,
  asking: Asking,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  const { moves } = asking.handshake;
  const user = identityKey(asking.credentials);
  const askedAt = context.sessionStore.now();
  const decision = await decide(resumable.sessionId, asking, context);
  switch (decision.kind) {
    case "granted": {
      const { channels } = decision;
      const lost = grantsLess(channels, resumable.grantedChannels);
      const withdrawnAt = lost ? await withdrawHookGrants(user, context) : undefined;
      const grantedAt = withdrawnAt === undefined ? askedAt : withdrawnAt + 1;
      return { ...resume(resumable, asking.credentials, moves), grantedChannels: channels, grantedAt };
    }
    case "undecided":
      return resume(resumable, resumable.credentials, moves);
    case "refused":
      await forbidResume({ id: resumable.sessionId, identityKey: user }, context);
      await endElsewhere(user, resumable.sessionId, decision.message, context);
      return refusedByHook(decision);
  }
}

/** The session may still be connected, on any node. */
async function endElsewhere(
  user: IdentityKey,
  sessionId: string,
  message: string,
  { broker, logger }: GatewayContext,
): Promise<void> {
  const reason = excerpt(message, maxRefusalLength);
  try {
    await broker.sendToUser(user, { kind: "disconnect", reason, reconnect: false, sessionId });
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    logger.warn({ err: error, sessionId }, "a session that the connect hook refused may stay connected");
  }
}

async function askToBegin(asking: Asking, context: GatewayContext): Promise<Accepted | Refused> {
  const { credentials, handshake } = asking;
  const sessionId = randomUUID();
  const grantedAt = context.sessionStore.now();
  const decision = await decide(sessionId, asking, context);
  switch (decision.kind) {
    case "granted": {
      const { channels, info = presentable(credentials.claims["info"]) } = decision;
      const { moves } = handshake;
      const granted = { grantedChannels: channels, grantedAt };
      return { kind: "accepted", sessionId, credentials, ...granted, info, resumed: undefined, moves };
    }
    case "undecided": {
      const { refusal } = refused("auth_unavailable", "the connect hook gave no decision", undecidedRetryMs);
      return { kind: "refused", refusal: { ...refusal, ...withRequestId(decision) } };
    }
    case "refused":
      return refusedByHook(decision);
  }
}

async function decide(
  sessionId: string,
  { handshake, credentials, address, withinMs }: Asking,
  context: GatewayContext,
): Promise<HookDecision> {
  const { user, tenant, claims } = credentials;
  const identity = { user, sessionId, ...(tenant !== undefined && { tenant }), claims };
  return askConnectHook({ identity, address, userAgent: handshake.userAgent, withinMs }, context);
}

function refusedByHook(decision: HookDecision & { kind: "refused" }): Refused {
  const { code, message } = decision;
  const refusal = { code, message: excerpt(message, maxRefusalLength), retryable: false, ...withRequestId(decision) };
  return { kind: "refused", refusal };
}

/**
 * Sessions that begin at the same moment may exceed the bound together.
 * @returns why the user may not have another session.
 */
export async function checkSessionsOfUser(
  user: IdentityKey,
  maxSessions: number,
  { sessionStore }: GatewayContext,
): Promise<Refused | undefined> {
  try {
    const sessions = await sessionStore.sessionsOf(user);
    if (sessions.length < maxSessions) return undefined;
    return refused("rate_limited", "this user has as many sessions as are allowed", sessionsOfUserRetryMs);
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    return refused("broker_unavailable", error.message, error.options.retryAfterMs);
  }
}

/** Info that is too large for presence is not shown. */
function presentable(info: unknown): unknown {
  return info !== undefined && isPresentableInfo(info) ? info : undefined;
}
