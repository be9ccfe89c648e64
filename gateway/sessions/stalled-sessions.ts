import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Session } from "./session.ts";

interface Stay {
  readonly progress: number;
  /** Looks in a row at which it stood there, but for the first. */
  readonly looks: number;
}

/**
 * Ends sessions for which something waits and whose network takes nothing of it. One look at all of them at a time: nothing is
 * kept for those that take what they are sent.
 */
export class StalledSessions implements Service {
  readonly #sessions: () => readonly Session[];
  readonly #onStalled: (session: Session) => void;
  readonly #checkMs: number;
  readonly #checks: number;
  readonly #errors: ContainedErrors;
  /** Where those that wait stood at the last look. */
  #waiting = new Map<Session, Stay>();
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
    this.#timer = this.#errors.every(this.#checkMs, () => this.#look()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #look(): void {
    const then = this.#waiting;
    this.#waiting = new Map();
    for (const session of this.#sessions()) {
      const { bytes, progress } = session.outbox;
      if (bytes === 0) continue;
      const before = then.get(session);
      const looks = before?.progress === progress ? before.looks + 1 : 0;
      if (looks >= this.#checks) this.#errors.contain("timer", () => this.#onStalled(session));
      else this.#waiting.set(session, { progress, looks });
    }
  }
}
