import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Claim, ClaimOutcome } from "../../shared/sessions/contract.ts";
import { refuse } from "../sessions/authentication.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";

export type Begun =
  | { kind: "begun" }
  /** What it resumes with was revoked: it may still begin by its token. */
  | { kind: "revoked" }
  | { kind: "refused"; refusal: ConnectRefusal };

/**
 * Makes a session known: messages to its user reach it, and it is the one with its id. Whoever resumes is let in without
 * the store, too, and told to it later.
 * @param last how the session that is resumed was held; undefined: a new one begins.
 */
export async function beginSession(session: Session, last: Claim | undefined, context: GatewayContext): Promise<Begun> {
  const { id } = session;
  try {
    if (last !== undefined) session.succession.expect();
    // Followed first: a newer claim is heard of.
    await context.sessions.add(session);
    const outcome = last === undefined ? await begin(session, context) : await resume(session, last, context);
    return outcome === "revoked" ? { kind: "revoked" } : { kind: "begun" };
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    if (last === undefined) {
      return { kind: "refused", refusal: refuse("broker_unavailable", error.message, error.options.retryAfterMs) };
    }
    const rivals = context.sessions.ofUser(session.identityKey).filter(({ id }) => id === session.id);
    const newest = Math.max(last.claim, ...rivals.map(({ held }) => held.claim));
    const claim = Math.max(context.sessionStore.now(), newest + 1);
    // Not checked now: whatever was revoked since it last was still counts.
    const held = { sessionId: session.id, claim, checkedAt: last.checkedAt };
    session.hold(held, { resumed: session.id === id, tookOver: false });
    for (const rival of rivals) rival.hearOf(claim);
    context.holdings.mention();
    context.metrics.resumes.inc({ outcome: "unchecked" });
    return { kind: "begun" };
  }
}

async function begin(session: Session, context: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const outcome = await context.holdings.claim({ mode: "begin", ...session.stored, claim: 0, checkedAt: 0 });
  if (outcome.kind === "held") hold(session, outcome, context, { resumed: false });
  return outcome.kind;
}

async function resume(session: Session, last: Claim, context: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const outcome = await context.holdings.claim({ mode: "resume", ...session.stored, ...last });
  context.metrics.resumes.inc({ outcome: outcome.kind });
  if (outcome.kind === "held") hold(session, outcome, context, { resumed: true });
  else if (outcome.kind === "over") {
    // Ended too long ago: the same user, a new session.
    session.hold({ sessionId: randomUUID(), claim: 0, checkedAt: 0 }, { resumed: false, tookOver: false });
    return begin(session, context);
  }
  return outcome.kind;
}

function hold(
  session: Session,
  { claim, checkedAt, withdrawn, tookOver }: ClaimOutcome & { kind: "held" },
  { holdings }: GatewayContext,
  { resumed }: { resumed: boolean },
): void {
  session.hold({ sessionId: session.id, claim, checkedAt }, { resumed, tookOver });
  session.withdraw(withdrawn);
  // Its connection was gone before the store had answered: what it left is given back.
  if (session.disposed) holdings.end(session.stored);
}
