/** May this connection become a session? By its resume token, or by its token and the connect hook. */
import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { IdentityKey } from "../../shared/protocol/identity-key.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import { handshakeValidator } from "../../shared/protocol/client-messages.ts";
import type { ConnectCode, ConnectRefusal } from "../../shared/protocol/codes.ts";
import { protocolVersion } from "../../shared/protocol/limits.ts";
import { maxAuthBytes, oversizedAuth } from "./auth-bound.ts";
import { isPresentableInfo, readHookGrant } from "../../shared/protocol/relay.ts";
import type { Claim } from "../../shared/sessions/contract.ts";
import {
  authenticate,
  type Credentials,
  isSameClient,
  refuse,
  tokenIdOf,
  undecidedRetryMs,
} from "../sessions/authentication.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Resumable } from "../sessions/resume-token.ts";

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
  /** Patterns that the connect hook adds to the token's channels. */
  grantedChannels: readonly string[];
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

/** The part of the check that costs little and does no I/O. */
export function readHandshake(auth: unknown, userAgent: string, context: GatewayContext): Handshake | Refused {
  if (auth === oversizedAuth) return refused("unauthenticated", `auth is longer than ${maxAuthBytes} bytes of JSON`);
  if (!handshakeValidator.Check(auth)) {
    return refused("unauthenticated", "auth must be { token, resume?, protocol?, moves? }");
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
    // A session resumes only for the user and tenant that began it.
    if (resumable && isSameClient(resumable.credentials, credentials)) return resume(resumable, credentials, moves);
    return askConnectHook(credentials, handshake, address, deadline, context);
  }
  const { refusal, expired } = authentication;
  const isFinal = !refusal.retryable || (expired && resumable && !isSameClient(expired, resumable.credentials));
  return resumable && !isFinal ? resume(resumable, resumable.credentials, moves) : { kind: "refused", refusal };
}

function resume(resumable: Resumable, given: Credentials, moves: boolean): Accepted {
  const { sessionId, claim, checkedAt, grantedChannels, info } = resumable;
  const credentials = { ...given, expiresAt: Math.max(given.expiresAt, Date.now() + minResumedMs) };
  const resumed = { claim, checkedAt };
  return { kind: "accepted", sessionId, credentials, grantedChannels, info, resumed, moves };
}

async function askConnectHook(
  credentials: Credentials,
  { moves, userAgent }: Handshake,
  address: string,
  deadline: number,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  const accepted: Accepted = {
    kind: "accepted",
    sessionId: randomUUID(),
    credentials,
    grantedChannels: [],
    info: presentable(credentials.claims["info"]),
    resumed: undefined,
    moves,
  };
  const service = context.currentRules.rules.hook("connect");
  if (!service) return accepted;
  const { user, tenant, claims } = credentials;
  const leftMs = Math.max(1, Math.floor(deadline - performance.now()));
  const result = await context.relay.ask({
    kind: "connect",
    identity: { user, sessionId: accepted.sessionId, ...(tenant !== undefined && { tenant }), claims },
    address,
    userAgent,
    traceparent: newTraceparent(),
    timeoutMs: Math.min(service.timeoutMs, leftMs),
  });
  const grant = result.ok ? readHookGrant(result.data) : undefined;
  if (grant) {
    const { channels = [], info = accepted.info } = grant;
    return { ...accepted, grantedChannels: channels, info };
  }
  return !result.ok && result.error.code === "forbidden"
    ? refused("forbidden", result.error.message)
    : refused("auth_unavailable", "the connect hook could not be asked", undecidedRetryMs);
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
