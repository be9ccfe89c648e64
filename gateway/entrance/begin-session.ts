import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Claim, ClaimOutcome } from "../../shared/sessions/contract.ts";
import { conflateFromBytes, maxOutboxBytes, maxPayloadBytes, protocolVersion } from "../../shared/protocol/limits.ts";
import type { ReconnectPolicy, Welcome } from "../../shared/protocol/wire.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Connection } from "../outbox/connection.ts";
import { eventFrame } from "../outbox/frames.ts";
import { Outbox } from "../outbox/outbox.ts";
import { Session } from "../sessions/session.ts";
import { type Accepted, type Refused, refused, tooLate } from "./handshake.ts";

export type Begun =
  | { kind: "begun" }
  /** The session that the client resumes was revoked: it may still begin a new one with its token. */
  | { kind: "revoked" }
  | Refused;

export function createSession(
  connection: Connection,
  accepted: Accepted,
  { metrics, sessionStore }: GatewayContext,
): Session {
  const outbox = new Outbox({
    sink: connection,
    maxBytes: maxOutboxBytes,
    conflateFromBytes,
    onOverflow: () => {
      metrics.slowConsumers.inc({ cause: "bytes" });
      session.terminate("slow_consumer");
    },
    onConflated: (frames) => metrics.conflated.inc(frames),
  });
  const session: Session = new Session({
    ...accepted,
    storeNow: () => sessionStore.now(),
    outbox,
    connection,
  });
  return session;
}

/**
 * Makes a session known: messages to its user reach it, and its claim on the session id is the newest. A resume succeeds
 * while the store is away, too: this node announces it to the store later.
 * @param options.last claim on the session that resumes; undefined: a new one begins. `deadline`: by `performance.now()`; nothing is claimed after it.
 */
export async function beginSession(
  session: Session,
  { last, deadline }: { last: Claim | undefined; deadline: number },
  context: GatewayContext,
): Promise<Begun> {
  const { id } = session;
  // Its client may have resumed elsewhere by then: this claim would be the newest one.
  const isOver = (): boolean => session.disposed || performance.now() > deadline;
  try {
    if (last !== undefined) session.succession.expectClaim();
    // Followed before the claim, so that no message about a newer claim is missed.
    await context.sessions.add(session);
    if (isOver()) return tooLate();
    const outcome = last === undefined ? await begin(session, context) : await resume(session, last, context);
    return outcome === "revoked" ? { kind: "revoked" } : { kind: "begun" };
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    if (isOver()) return tooLate();
    if (last === undefined) return refused("broker_unavailable", error.message, error.options.retryAfterMs);
    // A claim that is newer than any this node knows. `checkedAt` stays: a revocation since the last check still counts.
    const rivals = context.sessions.ofUser(session.identityKey).filter(({ id }) => id === session.id);
    const newest = Math.max(last.claim, ...rivals.map(({ held }) => held.claim));
    const claim = Math.max(context.sessionStore.now(), newest + 1);
    const held = { sessionId: session.id, claim, checkedAt: last.checkedAt };
    session.applyClaim(held, { resumed: session.id === id, tookOver: false });
    context.sessions.noticeClaim(session.identityKey, held);
    context.holdings.markIncomplete();
    context.metrics.resumes.inc({ outcome: "unchecked" });
    return { kind: "begun" };
  }
}

async function begin(session: Session, context: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const outcome = await context.holdings.claim(
    { mode: "begin", ...session.stored, claim: 0, checkedAt: 0 },
    session.identity,
  );
  if (outcome.kind === "held") applyClaim(session, outcome, context, { resumed: false });
  return outcome.kind;
}

async function resume(session: Session, last: Claim, context: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const outcome = await context.holdings.claim({ mode: "resume", ...session.stored, ...last }, session.identity);
  context.metrics.resumes.inc({ outcome: outcome.kind });
  if (outcome.kind === "held") applyClaim(session, outcome, context, { resumed: true });
  else if (outcome.kind === "over") {
    // The session ended too long ago: the same user begins a new one.
    session.applyClaim({ sessionId: randomUUID(), claim: 0, checkedAt: 0 }, { resumed: false, tookOver: false });
    return begin(session, context);
  }
  return outcome.kind;
}

function applyClaim(
  session: Session,
  { claim, checkedAt, withdrawn, tookOver }: ClaimOutcome & { kind: "held" },
  { holdings }: GatewayContext,
  { resumed }: { resumed: boolean },
): void {
  session.applyClaim({ sessionId: session.id, claim, checkedAt }, { resumed, tookOver });
  session.permissions.withdraw(withdrawn);
  // The connection closed before the store answered: gives the claim back.
  if (session.disposed) holdings.end(session.stored, session.ending("connection_lost"));
}

/** Sends the first frame of a session; frames that were sent to it before follow. */
export function welcome(session: Session, reconnect: ReconnectPolicy, { node, resumeTokens }: GatewayContext): void {
  const { tenant } = session.credentials;
  const welcome: Welcome = {
    protocol: protocolVersion,
    node,
    sessionId: session.id,
    user: session.user,
    ...(tenant !== undefined && { tenant }),
    resumed: session.resumed,
    resumeToken: resumeTokens.seal(session.resumable),
    expiresAt: session.expiresAt,
    maxPayloadBytes,
    reconnect,
  };
  session.welcome(eventFrame("sync:welcome", welcome));
}
