import { randomUUID } from "node:crypto";
import { TidegateError } from "../shared/errors.ts";
import type { ConnectRefusal } from "../shared/protocol/codes.ts";
import type { ClaimOutcome } from "../shared/sessions/store.ts";
import { refuse } from "./authentication.ts";
import type { GatewayContext } from "./context.ts";
import type { Session } from "./session.ts";
import { endReplaced } from "./user-commands.ts";

export type Begun =
  | { kind: "begun" }
  /** What it resumes with was revoked: it may still begin by its token. */
  | { kind: "revoked" }
  | { kind: "refused"; refusal: ConnectRefusal };

/**
 * Makes a session known: messages to its user reach it, and it is the one with its id. Whoever resumes is let in without
 * the store, too, and told to it later.
 * @param claim of the session that is resumed; undefined: a new one begins.
 */
export async function beginSession(
  session: Session,
  claim: number | undefined,
  context: GatewayContext,
): Promise<Begun> {
  try {
    // Followed first: a newer claim is heard of.
    await context.sessions.add(session);
    const outcome = claim === undefined ? await begin(session, context) : await resume(session, claim, context);
    return outcome === "revoked" ? { kind: "revoked" } : { kind: "begun" };
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    if (claim === undefined) {
      return { kind: "refused", refusal: refuse("broker_unavailable", error.message, error.options.retryAfterMs) };
    }
    const held = { sessionId: session.id, claim: Math.max(context.sessionStore.now(), claim + 1) };
    session.hold(held, { resumed: true });
    endReplaced(context.sessions.ofUser(session.user), held);
    context.holdings.mention();
    context.metrics.resumes.inc({ outcome: "unchecked" });
    return { kind: "begun" };
  }
}

async function begin(session: Session, { holdings }: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const outcome = await holdings.claim({ mode: "begin", sessionId: session.id, user: session.user, claim: 0 });
  if (outcome.kind === "held") {
    session.hold({ sessionId: session.id, claim: outcome.claim }, { resumed: false });
    session.withdraw(outcome.withdrawn);
  }
  return outcome.kind;
}

async function resume(session: Session, claim: number, context: GatewayContext): Promise<ClaimOutcome["kind"]> {
  const { id: sessionId, user } = session;
  const outcome = await context.holdings.claim({ mode: "resume", sessionId, user, claim });
  context.metrics.resumes.inc({ outcome: outcome.kind });
  if (outcome.kind === "held") {
    session.hold({ sessionId, claim: outcome.claim }, { resumed: true });
    session.withdraw(outcome.withdrawn);
  } else if (outcome.kind === "over") {
    // Ended too long ago: the same user, a new session.
    session.hold({ sessionId: randomUUID(), claim: 0 }, { resumed: false });
    return begin(session, context);
  }
  return outcome.kind;
}
