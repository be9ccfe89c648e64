import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Session } from "./session.ts";

interface Waiting {
  readonly progress: number;
  /** Checks in a row without progress. */
  readonly stalledChecks: number;
}

/**
 * Finds sessions whose outbox is not empty and whose network takes nothing of it. One timer for all sessions; sessions that
 * read what they are sent cost nothing.
 */
export class StalledSessions implements Service {
  readonly #sessions: () => readonly Session[];
  readonly #onStalled: (session: Session) => void;
  readonly #checkMs: number;
  readonly #checks: number;
  readonly #errors: ContainedErrors;
  /** Sessions with a filled outbox at the last check. */
  #waiting = new Map<Session, Waiting>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: {
    sessions: () => readonly Session[];
    onStalled: (session: Session) => void;
    checkMs: number;
    checks: number;
    errors: ContainedErrors;
  }) {
    this.#sessions = options.sessions;
    this.#onStalled = options.onStalled;
    this.#checkMs = options.checkMs;
    this.#checks = options.checks;
    this.#errors = options.errors;
  }

  async start(): Promise<void> {
    this.#timer = this.#errors.every(this.#checkMs, () => this.#check()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #check(): void {
    const then = this.#waiting;
    this.#waiting = new Map();
    for (const session of this.#sessions()) {
      const { bytes, progress } = session.outbox;
      if (bytes === 0) continue;
      const before = then.get(session);
      const stalledChecks = before?.progress === progress ? before.stalledChecks + 1 : 0;
      if (stalledChecks >= this.#checks) this.#errors.contain("timer", () => this.#onStalled(session));
      else this.#waiting.set(session, { progress, stalledChecks });
    }
  }
}
