/** May this connection become a session? By what it resumes with, or by its token and the connect hook. */
import { randomUUID } from "node:crypto";
import { newTraceparent } from "../../shared/http/traceparent.ts";
import { handshakeValidator } from "../../shared/protocol/client-messages.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import { protocolVersion } from "../../shared/protocol/limits.ts";
import { hookGrantValidator, isPresentableInfo } from "../../shared/protocol/relay.ts";
import type { Claim } from "../../shared/sessions/store.ts";
import { authenticate, type Credentials, isSameClient, refuse, tokenIdOf, undecidedRetryMs } from "./authentication.ts";
import type { GatewayContext } from "../context.ts";
import type { Resumable } from "./resume-token.ts";

/** A resumed session has at least so long to refresh, however little its token leaves. */
const minStayMs = 60_000;

/** What a client sends to begin, and where from. */
export interface Handshake {
  auth: unknown;
  address: string;
  userAgent: string;
}

/** The same, by its token alone. */
export function withoutResume(handshake: Handshake): Handshake {
  return { ...handshake, auth: { ...(handshake.auth as object), resume: null } };
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

/** @param deadline by `performance.now()`: the hook has until then. */
export async function checkHandshake(
  handshake: Handshake,
  deadline: number,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  const { auth } = handshake;
  if (!handshakeValidator.Check(auth)) {
    return refused(refuse("unauthenticated", "auth must be { token, resume?, protocol?, moves? }"));
  }
  if (auth.protocol !== undefined && auth.protocol !== protocolVersion) {
    return refused(refuse("unsupported_protocol", `this server speaks protocol ${protocolVersion}`));
  }
  const { token, resume, moves = false } = auth;
  const resumable = typeof resume === "string" ? context.resumeTokens.open(resume) : undefined;
  if (resumable && (token === undefined || tokenIdOf(token) === resumable.credentials.tokenId)) {
    return goOn(resumable, resumable.credentials, moves);
  }
  if (token === undefined) {
    const finding = resume ? "auth.resume is not valid any more, and auth.token is missing" : "auth.token is missing";
    return refused(refuse("unauthenticated", finding));
  }
  const authentication = await authenticate(context.verify, token);
  if (authentication.kind === "accepted") {
    const { credentials } = authentication;
    // Another user's or tenant's session is no session of this one's.
    if (resumable && isSameClient(resumable.credentials, credentials)) return goOn(resumable, credentials, moves);
    return askConnectHook(credentials, moves, handshake, deadline, context);
  }
  const { refusal, user = resumable?.credentials.user } = authentication;
  const isHindrance = !refusal.retryable || user !== resumable?.credentials.user;
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
  { address, userAgent }: Handshake,
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
  if (result.ok && hookGrantValidator.Check(result.data)) {
    const { channels = [], info = accepted.info } = result.data;
    return { ...accepted, grantedChannels: channels, info };
  }
  return !result.ok && result.error.code === "forbidden"
    ? refused(refuse("forbidden", result.error.message))
    : refused(refuse("auth_unavailable", "the connect hook could not be asked", undecidedRetryMs));
}

/** Too large for others to be shown, it is not. */
function presentable(info: unknown): unknown {
  return info !== undefined && isPresentableInfo(info) ? info : undefined;
}

function refused(refusal: ConnectRefusal): Refused {
  return { kind: "refused", refusal };
}
