/** May this connection become a session? By its token, then by the connect hook. */
import { randomUUID } from "node:crypto";
import { newTraceparent } from "../shared/http/traceparent.ts";
import { handshakeValidator } from "../shared/protocol/client-messages.ts";
import type { ConnectRefusal } from "../shared/protocol/codes.ts";
import { protocolVersion } from "../shared/protocol/limits.ts";
import { connectGrantValidator } from "../shared/protocol/relay.ts";
import { authenticate, type Credentials, refuse, undecidedRetryMs } from "./authentication.ts";
import type { GatewayContext } from "./context.ts";

/** What a client sends to begin, and where from. */
export interface Handshake {
  auth: unknown;
  address: string;
  userAgent: string;
}

/** Enough to begin a session with. */
export interface Accepted {
  kind: "accepted";
  sessionId: string;
  credentials: Credentials;
  /** What the connect hook adds to the token's channels. */
  grantedChannels: readonly string[];
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
    return refused(refuse("unauthenticated", "auth must be { token, resume?, protocol? }"));
  }
  if (auth.protocol !== undefined && auth.protocol !== protocolVersion) {
    return refused(refuse("unsupported_protocol", `this server speaks protocol ${protocolVersion}`));
  }
  if (auth.token === undefined) return refused(refuse("unauthenticated", "auth.token is missing"));
  const authentication = await authenticate(context.verify, auth.token);
  if (authentication.kind === "refused") return authentication;
  return askConnectHook(authentication.credentials, handshake, deadline, context);
}

async function askConnectHook(
  credentials: Credentials,
  { address, userAgent }: Handshake,
  deadline: number,
  context: GatewayContext,
): Promise<Accepted | Refused> {
  const accepted: Accepted = { kind: "accepted", sessionId: randomUUID(), credentials, grantedChannels: [] };
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
  if (result.ok && connectGrantValidator.Check(result.data)) {
    return { ...accepted, grantedChannels: result.data.channels ?? [] };
  }
  return !result.ok && result.error.code === "forbidden"
    ? refused(refuse("forbidden", result.error.message))
    : refused(refuse("auth_unavailable", "the connect hook could not be asked", undecidedRetryMs));
}

function refused(refusal: ConnectRefusal): Refused {
  return { kind: "refused", refusal };
}
