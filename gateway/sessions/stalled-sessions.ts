import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Session } from "./session.ts";

interface Waiting {
  readonly progress: number;
  /** Checks in a row without progress. */
  readonly stalledChecks: number;
}

interface StalledSessionsOptions {
  sessions: () => readonly Session[];
  onStalled: (session: Session) => void;
  checkMs: number;
  checks: number;
  errors: ContainedErrors;
}

/**
 * Finds sessions whose outbox is not empty and whose network accepts none of it. One timer for all sessions; sessions that
 * read what they are sent cost nothing.
 */
export class StalledSessions implements Service {
  readonly #options: StalledSessionsOptions;
  /** Sessions with a filled outbox at the last check. */
  #waiting = new Map<Session, Waiting>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: StalledSessionsOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#timer = this.#options.errors.every(this.#options.checkMs, () => this.#check()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #check(): void {
    const then = this.#waiting;
    this.#waiting = new Map();
    for (const session of this.#options.sessions()) {
      const { bytes, progress } = session.outbox;
      if (bytes === 0) continue;
      const before = then.get(session);
      const stalledChecks = before?.progress === progress ? before.stalledChecks + 1 : 0;
      if (stalledChecks >= this.#options.checks)
        this.#options.errors.contain("timer", () => this.#options.onStalled(session));
      else this.#waiting.set(session, { progress, stalledChecks });
    }
  }
}
