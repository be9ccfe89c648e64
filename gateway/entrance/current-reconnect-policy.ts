/** The reconnect policy that this node's clients know: from their welcome, and by a notice when it has changed. */
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { ReconnectPolicy } from "../../shared/protocol/wire.ts";
import type { Session } from "../sessions/session.ts";
import { noticeFrame } from "../outbox/frames.ts";
import { differsMaterially, reconnectPolicy } from "./reconnect-window.ts";

/** Sessions that are notified in one turn, and the pause before the next turn. */
const batch = 100;
const batchEveryMs = 20;
/** While many sessions begin, the window grows all the time. */
const notifyEveryMs = 5_000;

interface CurrentReconnectPolicyOptions {
  sessions: () => readonly Session[];
  /** Of the fleet without this node. */
  admissionsPerSecond: () => number;
  errors: ContainedErrors;
}

export class CurrentReconnectPolicy {
  readonly #options: CurrentReconnectPolicyOptions;
  #current: ReconnectPolicy;
  #notifiedAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  /** The node began to drain before every session had its notice. */
  #interrupted = false;

  constructor(options: CurrentReconnectPolicyOptions) {
    this.#options = options;
    this.#current = reconnectPolicy(0, options.admissionsPerSecond());
  }

  /** Known to every session, or about to be. */
  get current(): ReconnectPolicy {
    return this.#current;
  }

  /** Computes the policy again; notifies all sessions where it differs much. */
  update(): void {
    const now = performance.now();
    if (this.#stopped || this.#timer || now < this.#notifiedAt + notifyEveryMs) return;
    const sessions = this.#options.sessions();
    const policy = reconnectPolicy(sessions.length, this.#options.admissionsPerSecond());
    if (!differsMaterially(this.#current, policy)) return;
    this.#current = policy;
    this.#notifiedAt = now;
    this.#notify(sessions, 0);
  }

  /** The node drains: its sessions get no more notices. */
  stop(): void {
    this.#stopped = true;
    this.#interrupted ||= this.#timer !== undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The drain is called off. */
  resume(): void {
    this.#stopped = false;
    if (!this.#interrupted) return;
    this.#interrupted = false;
    this.#notify(this.#options.sessions(), 0);
  }

  /** Sessions that begin in the meantime have the policy from their welcome. */
  #notify(sessions: readonly Session[], from: number): void {
    this.#timer = undefined;
    if (from >= sessions.length) return;
    const frame = noticeFrame("sync:policy", { reconnect: this.#current });
    for (const session of sessions.slice(from, from + batch)) {
      if (!session.welcomed || session.disposed) continue;
      this.#options.errors.contain("timer", () => session.outbox.send(frame));
    }
    this.#timer = setTimeout(() => this.#notify(sessions, from + batch), batchEveryMs);
    this.#timer.unref();
  }
}
