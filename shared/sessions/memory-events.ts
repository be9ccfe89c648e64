import type { IdentityKey } from "../protocol/identity-key.ts";
import type { SessionEventKind } from "../protocol/session-events.ts";
import { maxTaken, type SessionEvent, type SessionRecord, takenMs } from "./contract.ts";

/** What the events of a session are made of. */
export interface EventfulSession extends SessionRecord {
  readonly user: IdentityKey;
  /** Unix ms; undefined while the session is connected. */
  readonly endedAt: number | undefined;
  readonly reason: string | undefined;
  /** Undefined where no service asks for its events. */
  profile: string | undefined;
  /** Its `disconnected` was taken. */
  isOver: boolean;
}

interface DueEvent {
  kind: SessionEventKind;
  /** Of the session. */
  key: string;
  /** Unix ms. */
  dueAt: number;
}

/** The due session events of a single process. */
export class MemorySessionEvents {
  readonly #sessions: ReadonlyMap<string, EventfulSession>;
  readonly #due = new Map<string, DueEvent>();

  /** @param sessions by key. A session stays there while one of its events is due. */
  constructor(sessions: ReadonlyMap<string, EventfulSession>) {
    this.#sessions = sessions;
  }

  expect(kind: SessionEventKind, key: string, dueAt: number): void {
    this.#due.set(dueKey(kind, key), { kind, key, dueAt });
  }

  cancel(kind: SessionEventKind, key: string): void {
    this.#due.delete(dueKey(kind, key));
  }

  has(kind: SessionEventKind, key: string): boolean {
    return this.#due.has(dueKey(kind, key));
  }

  take(): { events: SessionEvent[]; nextMs: number | undefined } {
    const now = Date.now();
    const taken = new Map<DueEvent, SessionEvent>();
    const take = (due: DueEvent, session: EventfulSession): void => {
      if (taken.has(due)) return;
      due.dueAt = now + takenMs;
      taken.set(due, eventOf(due.kind, session));
    };
    for (const due of this.#due.values()) {
      const session = this.#sessions.get(due.key);
      if (!session || due.dueAt > now || taken.size >= maxTaken) continue;
      if (due.kind === "disconnected") {
        const earlier = this.#due.get(dueKey("connected", due.key));
        if (earlier) take(earlier, session);
        session.isOver = true;
      }
      take(due, session);
    }
    const waits = [...this.#due.values()].map(({ dueAt }) => Math.max(0, dueAt - now));
    return { events: [...taken.values()], nextMs: waits.length === 0 ? undefined : Math.min(...waits) };
  }

  settle(kind: SessionEventKind, key: string, options: { last: boolean }): void {
    // Another caller has settled it: the profile may be that of a later claim.
    if (!this.has(kind, key)) return;
    const session = this.#sessions.get(key);
    if (session && (options.last || kind === "disconnected")) session.profile = undefined;
    this.cancel(kind, key);
  }
}

function dueKey(kind: SessionEventKind, key: string): string {
  return `${kind} ${key}`;
}

function eventOf(kind: SessionEventKind, session: EventfulSession): SessionEvent {
  const { sessionId, user, connectedAt, endedAt, reason, profile = "" } = session;
  if (kind === "connected") return { kind, sessionId, user, at: connectedAt, profile };
  return { kind, sessionId, user, at: endedAt ?? connectedAt, ...(reason !== undefined && { reason }), profile };
}
