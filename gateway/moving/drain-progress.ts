import type { DrainReport } from "../../shared/nodes/contract.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import type { Session, SessionEnd } from "../sessions/session.ts";

export type DrainOutcome = "moved" | "closed" | "forced" | "lost" | "left";

/** The sessions present when a node's drain begins, and how each of them ends. */
export class DrainProgress {
  readonly #onGone: (outcome: DrainOutcome) => void;
  readonly #remaining = new Set<Session>();
  #asked = new WeakSet<Session>();
  #overdue = new WeakSet<Session>();
  #startedAt: number | undefined;
  #counts = noSessions();
  #sessions = 0;
  #endedAt: number | undefined;
  #whenAllGone: () => void = () => undefined;

  constructor(onGone: (outcome: DrainOutcome) => void) {
    this.#onGone = onGone;
  }

  /** Undefined before the drain. */
  get report(): DrainReport | undefined {
    if (this.#startedAt === undefined) return undefined;
    return {
      startedAt: this.#startedAt,
      ...(this.#endedAt !== undefined && { endedAt: this.#endedAt }),
      sessions: this.#sessions,
      ...this.#counts,
    };
  }

  get remaining(): ReadonlySet<Session> {
    return this.#remaining;
  }

  begin(): void {
    this.#startedAt = Date.now();
  }

  /** Adds sessions not tracked yet. A handshake under way is not one of them: the door refuses it. */
  track(sessions: readonly Session[]): void {
    for (const session of sessions) {
      if (!session.welcomed || this.#remaining.has(session)) continue;
      this.#remaining.add(session);
      this.#sessions++;
      session.whenEnded((end) => this.#settle(session, outcomeOf(end, this.#stateOf(session))));
    }
  }

  /** The session's client has been asked to move. */
  markAsked(session: Session): void {
    this.#asked.add(session);
  }

  /** The session is still open at the deadline. */
  markOverdue(session: Session): void {
    this.#overdue.add(session);
  }

  /** Resolves once every tracked session is gone, or after this time. */
  async allGone(withinMs: number): Promise<void> {
    if (this.#remaining.size === 0 || withinMs <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#whenAllGone = resolve;
    await withDeadline(promise, withinMs, () => undefined);
  }

  /** Counts the sessions whose end is still unknown, too. */
  end(): void {
    for (const session of this.#remaining) this.#settle(session, this.#overdue.has(session) ? "forced" : "lost");
    this.#endedAt = Date.now();
  }

  /** The drain is called off: no session is tracked any more, and there is no report. */
  callOff(): void {
    this.#remaining.clear();
    this.#asked = new WeakSet();
    this.#overdue = new WeakSet();
    this.#startedAt = undefined;
    this.#endedAt = undefined;
    this.#sessions = 0;
    this.#counts = noSessions();
    this.#whenAllGone();
  }

  #stateOf(session: Session): { moves: boolean; asked: boolean; overdue: boolean } {
    return { moves: session.moves, asked: this.#asked.has(session), overdue: this.#overdue.has(session) };
  }

  #settle(session: Session, outcome: DrainOutcome): void {
    if (!this.#remaining.delete(session)) return;
    this.#counts[outcome]++;
    this.#onGone(outcome);
    if (this.#remaining.size === 0) this.#whenAllGone();
  }
}

function noSessions(): Record<DrainOutcome, number> {
  return { moved: 0, closed: 0, forced: 0, lost: 0, left: 0 };
}

/** @param session.moves its client moves by itself. `asked`: to move. `overdue`: still open at the deadline. */
export function outcomeOf(
  end: SessionEnd,
  { moves, asked, overdue }: { moves: boolean; asked: boolean; overdue: boolean },
): DrainOutcome {
  switch (end.kind) {
    case "moved":
      return "moved";
    case "broke":
      return "lost";
    case "left":
      // While the store is away no message tells this node of the newer connection.
      return moves && asked ? "moved" : "left";
    case "ended":
      if (end.code === "replaced") return "moved";
      if (overdue) return "forced";
      if (!end.taken) return "lost";
      return end.code === "draining" ? "closed" : "left";
  }
}
