/** May this connection become a session? By what it resumes with, or by its token and the connect hook. */
import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { IdentityKey } from "../../shared/protocol/identity-key.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";
import { handshakeValidator } from "../../shared/protocol/client-messages.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import { protocolVersion } from "../../shared/protocol/limits.ts";
import { maxAuthLength, oversizedAuth } from "./auth-bound.ts";
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

/** A resumed session has at least so long to refresh, however little its token leaves. */
const minStayMs = 60_000;

/** Where a handshake comes from. */
export interface Origin {
  address: string;
  userAgent: string;
}

/** Until one of them may have ended. */
const oneTooManyRetryMs = 10_000;

/** What a client sends to begin with: a token, or what it resumes with, or both. */
export interface Opened {
  kind: "opened";
  token: string | undefined;
  /** It was sealed by this fleet, and is valid. */
  resumable: Resumable | undefined;
  moves: boolean;
}

/** Enough to begin a session with. */
export interface Accepted {
  kind: "accepted";
  sessionId: string;
  credentials: Credentials;
  /** What the connect hook adds to the token's channels. */
  grantedChannels: readonly string[];
  /** What others see of the user. */
  info: unknown;
  /** How it last had the session that it goes on with; undefined: it begins. */
  resumed: Claim | undefined;
  /** It moves by itself when it is asked to. */
  moves: boolean;
}

type Refused = { kind: "refused"; refusal: ConnectRefusal };

/** As much of the check as costs little, and asks nobody. */
export function openHandshake(auth: unknown, context: GatewayContext): Opened | Refused {
  if (auth === oversizedAuth) {
    return refused(refuse("unauthenticated", `auth is longer than ${maxAuthLength} characters`));
  }
  if (!handshakeValidator.Check(auth)) {
    return refused(refuse("unauthenticated", "auth must be { token, resume?, protocol?, moves? }"));
  }
  if (auth.protocol !== undefined && auth.protocol !== protocolVersion) {
    return refused(refuse("unsupported_protocol", `this server speaks protocol ${protocolVersion}`));
  }
  const { token, resume, moves = false } = auth;
  const resumable = typeof resume === "string" ? context.resumeTokens.open(resume) : undefined;
  if (token === undefined && !resumable) {
    return refused(refuse("unauthenticated", missingToken(Boolean(resume))));
  }
  return { kind: "opened", token, resumable, moves };
}

function missingToken(triedToResume: boolean): string {
  return triedToResume ? "auth.resume is not valid any more, and auth.token is missing" : "auth.token is missing";
}

/** @param deadline by `performance.now()`: the hook has until then. */
export async function checkHandshake(
  { token, resumable, moves }: Opened,
  origin: Origin,
  deadline: number,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  if (resumable && (token === undefined || tokenIdOf(token) === resumable.credentials.tokenId)) {
    return goOn(resumable, resumable.credentials, moves);
  }
  if (token === undefined) return refused(refuse("unauthenticated", missingToken(true)));
  const authentication = await authenticate(context.verify, token);
  if (authentication.kind === "accepted") {
    const { credentials } = authentication;
    // Another user's or tenant's session is no session of this one's.
    if (resumable && isSameClient(resumable.credentials, credentials)) return goOn(resumable, credentials, moves);
    return askConnectHook(credentials, moves, origin, deadline, context);
  }
  const { refusal, expired } = authentication;
  const isHindrance = !refusal.retryable || (expired && resumable && !isSameClient(expired, resumable.credentials));
  return resumable && !isHindrance ? goOn(resumable, resumable.credentials, moves) : refused(refusal);
}

function goOn(resumable: Resumable, given: Credentials, moves: boolean): Accepted {
  const { sessionId, claim, checkedAt, grantedChannels, info } = resumable;
  const credentials = { ...given, expiresAt: Math.max(given.expiresAt, Date.now() + minStayMs) };
  const resumed = { claim, checkedAt };
  return { kind: "accepted", sessionId, credentials, grantedChannels, info, resumed, moves };
}

async function askConnectHook(
  credentials: Credentials,
  moves: boolean,
  { address, userAgent }: Origin,
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
    ? refused(refuse("forbidden", result.error.message))
    : refused(refuse("auth_unavailable", "the connect hook could not be asked", undecidedRetryMs));
}

/** Several that begin at the same moment may pass together. */
export async function refuseOneTooMany(
  user: IdentityKey,
  bound: number,
  { sessionStore }: GatewayContext,
): Promise<ConnectRefusal | undefined> {
  try {
    const sessions = await sessionStore.sessionsOf(user);
    return sessions.length < bound
      ? undefined
      : refuse("rate_limited", "this user has as many sessions as are allowed", oneTooManyRetryMs);
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    return refuse("broker_unavailable", error.message, error.options.retryAfterMs);
  }
}

/** Too large for others to be shown, it is not. */
function presentable(info: unknown): unknown {
  return info !== undefined && isPresentableInfo(info) ? info : undefined;
}

function refused(refusal: ConnectRefusal): Refused {
  return { kind: "refused", refusal };
}
