/** What the clients of this node are told of their return, should it be gone: in the welcome, and when it has changed. */
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { ReconnectPolicy } from "../../shared/protocol/wire.ts";
import type { Session } from "../sessions/session.ts";
import { noticeFrame } from "../outbox/frames.ts";
import { differsMaterially, reconnectPolicy } from "./reconnect-window.ts";

/** So many are told at a time, then others have their turn. */
const portion = 100;
const portionEveryMs = 20;
/** While sessions come in great numbers the window grows all the time. */
const tellEveryMs = 5_000;

export class ReturnPolicy {
  readonly #sessions: () => readonly Session[];
  readonly #admissionsPerSecond: () => number;
  readonly #errors: ContainedErrors;
  #current: ReconnectPolicy;
  #toldAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @param options.admissionsPerSecond that are left when this node is gone. */
  constructor(options: {
    sessions: () => readonly Session[];
    admissionsPerSecond: () => number;
    errors: ContainedErrors;
  }) {
    this.#sessions = options.sessions;
    this.#admissionsPerSecond = options.admissionsPerSecond;
    this.#errors = options.errors;
    this.#current = reconnectPolicy(0, options.admissionsPerSecond());
  }

  /** What all sessions know, or are being told. */
  get current(): ReconnectPolicy {
    return this.#current;
  }

  /** Works it out again. */
  update(): void {
    const now = performance.now();
    if (this.#stopped || this.#timer || now < this.#toldAt + tellEveryMs) return;
    const sessions = this.#sessions();
    const policy = reconnectPolicy(sessions.length, this.#admissionsPerSecond());
    if (!differsMaterially(this.#current, policy)) return;
    this.#current = policy;
    this.#toldAt = now;
    this.#tell(sessions, 0);
  }

  /** Those who are there are sent elsewhere: nobody is told any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Those that begin meanwhile know it from their welcome. */
  #tell(sessions: readonly Session[], from: number): void {
    this.#timer = undefined;
    if (from >= sessions.length) return;
    const frame = noticeFrame("sync:policy", { reconnect: this.#current });
    for (const session of sessions.slice(from, from + portion)) {
      if (!session.welcomed || session.disposed) continue;
      this.#errors.contain("timer", () => session.outbox.send(frame));
    }
    this.#timer = setTimeout(() => this.#tell(sessions, from + portion), portionEveryMs);
    this.#timer.unref();
  }
}
