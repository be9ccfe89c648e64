import type { DrainReport } from "../../shared/nodes/contract.ts";
import type { Session, SessionEnd } from "../sessions/session.ts";

export type DrainOutcome = "moved" | "closed" | "forced" | "lost" | "left";

/** The sessions that a node has when it begins to drain, and what becomes of each. */
export class Departures {
  readonly #onGone: (outcome: DrainOutcome) => void;
  readonly #staying = new Set<Session>();
  readonly #asked = new WeakSet<Session>();
  readonly #overdue = new WeakSet<Session>();
  #startedAt = 0;
  readonly #counts: Record<DrainOutcome, number> = { moved: 0, closed: 0, forced: 0, lost: 0, left: 0 };
  #sessions = 0;
  #endedAt: number | undefined;
  #whenAllGone: () => void = () => undefined;

  constructor(onGone: (outcome: DrainOutcome) => void) {
    this.#onGone = onGone;
  }

  get report(): DrainReport {
    return {
      startedAt: this.#startedAt,
      ...(this.#endedAt !== undefined && { endedAt: this.#endedAt }),
      sessions: this.#sessions,
      ...this.#counts,
    };
  }

  get staying(): ReadonlySet<Session> {
    return this.#staying;
  }

  /** From now on sessions are sent away. */
  begin(): void {
    this.#startedAt = Date.now();
  }

  /** Those that are not known yet. A handshake that is under way is refused by itself. */
  follow(sessions: readonly Session[]): void {
    for (const session of sessions) {
      if (!session.welcomed || this.#staying.has(session)) continue;
      this.#staying.add(session);
      this.#sessions++;
      session.whenEnded((end) => this.#settle(session, outcomeOf(end, this.#stateOf(session))));
    }
  }

  /** It has been asked to move. */
  asked(session: Session): void {
    this.#asked.add(session);
  }

  /** The deadline is past, and it has not been closed. */
  overdue(session: Session): void {
    this.#overdue.add(session);
  }

  /** Resolves once nobody is here, after that time at the latest. */
  async allGone(withinMs: number): Promise<void> {
    if (this.#staying.size === 0 || withinMs <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs);
    this.#whenAllGone = resolve;
    await promise;
    clearTimeout(timer);
  }

  /** Who has not been heard to be gone is counted as well. */
  end(): void {
    for (const session of this.#staying) this.#settle(session, this.#overdue.has(session) ? "forced" : "lost");
    this.#endedAt = Date.now();
  }

  #stateOf(session: Session): { moves: boolean; asked: boolean; overdue: boolean } {
    return { moves: session.moves, asked: this.#asked.has(session), overdue: this.#overdue.has(session) };
  }

  #settle(session: Session, outcome: DrainOutcome): void {
    if (!this.#staying.delete(session)) return;
    this.#counts[outcome]++;
    this.#onGone(outcome);
    if (this.#staying.size === 0) this.#whenAllGone();
  }
}

/** @param session.asked to move. `overdue`: still there at the deadline. */
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
      // Where the store is away nobody tells us that it has gone on elsewhere.
      return moves && asked ? "moved" : "left";
    case "ended":
      if (end.code === "replaced") return "moved";
      if (overdue) return "forced";
      if (!end.told) return "lost";
      return end.code === "draining" ? "closed" : "left";
  }
}
