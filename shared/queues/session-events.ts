/**
 * Moves session events from the session store to keyed queues, which deliver them. The two may be in different slots, so no single step
 * can do both: an event leaves the session store after its queue has stored it, and its id makes a repeat harmless.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../json/json.ts";
import type { IdentityKey } from "../protocol/identity-key.ts";
import { type SessionEventKind, sessionEventType, sessionSource } from "../protocol/session-events.ts";
import { slotOf } from "../redis/slots.ts";
import { defaultClass } from "../rules/schema.ts";
import type { Rules } from "../rules/rules.ts";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { TidegateError } from "../runtime/errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import type { Identity } from "../services/identity-token.ts";
import { newTraceparent } from "../services/traceparent.ts";
import type { RequestedEvents, SessionEvent, SessionEventStore, SessionStore } from "../sessions/contract.ts";
import { takenMs } from "../sessions/contract.ts";
import type { QueueStore } from "./contract.ts";
import { formatHead } from "./item-head.ts";

/** How often the store is searched for events of processes that are gone. */
const sweepMs = 5_000;
/** The same while no service asks for events: what was recorded before is dropped. */
const idleSweepMs = 60_000;
/** After a failure of the session store. */
const retryMs = 1_000;

const Profile = Type.Object({
  sessionId: Type.String(),
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  claims: Type.Record(Type.String(), Type.Unknown()),
  node: Type.String(),
});
const profileValidator = Compile(Profile);

interface SessionEventsOptions {
  store: SessionEventStore & Pick<SessionStore, "now">;
  queues: Pick<QueueStore, "enqueue">;
  /** In force. */
  rules: () => Rules;
  onStored: (kind: SessionEventKind) => void;
  errors: ContainedErrors;
  logger: Logger;
}

export class SessionEvents implements Service {
  readonly #options: SessionEventsOptions;
  /** Slots in which this process expects events → when the first is due, by `performance.now()`. */
  readonly #dueAt = new Map<number, number>();
  #looksEverywhere = false;
  /** By `performance.now()` */
  #sweptAt = -Infinity;
  #sweepTimer: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #moving: Promise<void> | undefined;
  #stopped = false;

  constructor(options: SessionEventsOptions) {
    this.#options = options;
  }

  /** A service asks for session events. */
  get isWanted(): boolean {
    const rules = this.#options.rules();
    return rules.sessionHook("connected") !== undefined || rules.sessionHook("disconnected") !== undefined;
  }

  async start(): Promise<void> {
    this.#sweepTimer = this.#options.errors.every(sweepMs, () => this.#sweep());
  }

  /** What is left is for other processes, or for the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#sweepTimer);
    clearTimeout(this.#timer);
    await this.#moving;
  }

  /** The events to record for a session that this node claims; undefined if no service asks for any. @param options.begins the session is new */
  requestedFor(identity: Identity, { node, begins }: { node: string; begins: boolean }): RequestedEvents | undefined {
    const rules = this.#options.rules();
    const connected = begins && rules.sessionHook("connected") !== undefined;
    if (!connected && rules.sessionHook("disconnected") === undefined) return undefined;
    const profile: Static<typeof Profile> = { ...identity, node };
    return { profile: JSON.stringify(profile), connected };
  }

  /** An event of a session of this user is due in `delayMs`. */
  expect(user: IdentityKey, delayMs: number): void {
    if (!this.isWanted) return;
    const slot = slotOf(user);
    const dueAt = performance.now() + delayMs;
    if (dueAt >= (this.#dueAt.get(slot) ?? Infinity)) return;
    this.#dueAt.set(slot, dueAt);
    this.#schedule();
  }

  #sweep(): void {
    const now = performance.now();
    if (!this.isWanted && now - this.#sweptAt < idleSweepMs) return;
    this.#sweptAt = now;
    this.#looksEverywhere = true;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#moving || this.#stopped) return;
    clearTimeout(this.#timer);
    const firstAt = this.#looksEverywhere ? -Infinity : Math.min(...this.#dueAt.values());
    if (firstAt === Infinity) return;
    this.#timer = setTimeout(() => this.#run(), Math.max(0, firstAt - performance.now()));
    this.#timer.unref();
  }

  #run(): void {
    this.#moving = this.#moveDue()
      .catch((error: unknown) => this.#options.errors.report("store", error))
      .finally(() => {
        this.#moving = undefined;
        this.#schedule();
      });
  }

  /** One batch after the other, until nothing is due. */
  async #moveDue(): Promise<void> {
    while (!this.#stopped) {
      const now = performance.now();
      const due = [...this.#dueAt].filter(([, dueAt]) => dueAt <= now).map(([slot]) => slot);
      const isSweep = this.#looksEverywhere;
      if (due.length === 0 && !isSweep) return;
      this.#looksEverywhere = false;
      for (const slot of due) this.#dueAt.delete(slot);
      let nextMs: number | undefined;
      try {
        nextMs = await this.#move(isSweep ? undefined : due);
      } catch (error) {
        this.#report(error);
        nextMs = retryMs;
      }
      if (isSweep && nextMs === 0) this.#looksEverywhere = true;
      if (nextMs === undefined) continue;
      // The next event is due in one of these slots. The store does not say which, so expect it in all of them.
      const nextAt = performance.now() + nextMs;
      for (const slot of due) this.#dueAt.set(slot, Math.min(nextAt, this.#dueAt.get(slot) ?? Infinity));
    }
  }

  /** @returns ms until the next event is due, as the store says. */
  async #move(slots: readonly number[] | undefined): Promise<number | undefined> {
    const takenAt = performance.now();
    const { events, nextMs } = await this.#options.store.takeEvents(slots);
    if (events.length === 0) return nextMs;
    const failed = new Set<string>();
    const stored: SessionEvent[] = [];
    const store = async (event: SessionEvent): Promise<void> => {
      // This process was paused: other processes may have taken the events by now, and the queues remember an id only for a time.
      if (performance.now() - takenAt >= takenMs) return;
      try {
        await this.#enqueue(event);
        stored.push(event);
      } catch (error) {
        failed.add(nameOf(event));
        this.#report(error);
      }
    };
    await Promise.all(events.filter(({ kind }) => kind === "connected").map(store));
    // Never before `connected` of the same session.
    const others = events.filter((event) => event.kind === "disconnected" && !failed.has(nameOf(event)));
    await Promise.all(others.map(store));
    const last = this.#options.rules().sessionHook("disconnected") === undefined;
    if (stored.length > 0) await this.#options.store.settleEvents(stored, { last });
    return nextMs;
  }

  async #enqueue({ kind, at, reason, profile }: SessionEvent): Promise<void> {
    const service = this.#options.rules().sessionHook(kind);
    const said = parseJson(profile);
    // The service stopped asking for it, or a later version wrote it.
    if (service === undefined || !profileValidator.Check(said)) return;
    const { sessionId, user, tenant, claims, node } = said;
    const id = `${kind}-${sessionId}`;
    const outcome = await this.#options.queues.enqueue({
      queue: { service, tenant: tenant ?? "", key: sessionId },
      class: defaultClass,
      head: formatHead(
        {
          id,
          event: sessionEventType(kind),
          source: sessionSource,
          path: `/tidegate/${kind}`,
          at: this.#options.store.now(),
          traceparent: newTraceparent(),
        },
        { sessionId, user, claims, ...(tenant !== undefined && { tenant }) },
      ),
      data: JSON.stringify({ sessionId, user, tenant, claims, node, at, reason }),
      dedupeId: id,
    });
    if (outcome.kind === "stored") this.#options.onStored(kind);
  }

  /** A store that cannot be reached is an expected failure. */
  #report(error: unknown): void {
    const { errors, logger } = this.#options;
    if (error instanceof TidegateError) logger.debug({ err: error }, "session events could not be moved yet");
    else errors.report("store", error);
  }
}

function nameOf({ sessionId, user }: SessionEvent): string {
  return `${sessionId} ${user}`;
}
