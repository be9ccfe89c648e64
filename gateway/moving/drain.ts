import { setImmediate, setTimeout as wait } from "node:timers/promises";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { DrainReport, FleetNode } from "../../shared/nodes/contract.ts";
import { reconnectPolicy } from "../entrance/reconnect-window.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "../sessions/session.ts";
import { closeInOrder, maxAnswersMs } from "./close-in-order.ts";
import { Departures } from "./departures.ts";
import { destinationsAmong } from "./destination.ts";
import { divideDrainTime, SlotSchedule, type Survivors } from "./slots.ts";

/** Slots come up this often, several at once where there are many. */
const tickMs = 50;
/** Sessions that are told in one turn of the event loop. */
const tellBatch = 500;
/** Slots that have shifted are told again no sooner. */
const tellAgainMs = 2_000;
/** After the deadline: for what is told at the end to reach clients. */
const closingMs = 3_000;
/** A registry that has just lost its memory shows nobody for a moment. */
const aloneForMs = 3_000;
/** For the registry to say who is there. */
const registryMs = 500;
const reason = "this node is stopping";

/**
 * Sends every session of this node elsewhere, each in its slot, because the node stops or because the API says so. Nobody
 * is let in from then on; the node is to be known to the fleet until the drain is over.
 */
export class Drain implements Service {
  readonly #sessions: () => readonly Session[];
  readonly #refuse: () => void;
  readonly #fleet: FleetMember;
  readonly #url: string | undefined;
  readonly #drainMs: number;
  readonly #metrics: Pick<GatewayMetrics, "movesAsked">;
  readonly #logger: Logger;
  readonly #departures: Departures;
  /** Undefined: the balancer decides. */
  readonly #sentTo = new WeakMap<Session, string | undefined>();
  #running: Promise<void> | undefined;
  #aloneSince: number | undefined;

  /**
   * @param options.refuse closes the door to whoever comes.
   * @param options.url of this node, as the fleet knows it.
   */
  constructor(options: {
    sessions: () => readonly Session[];
    refuse: () => void;
    fleet: FleetMember;
    url: string | undefined;
    drainMs: number;
    metrics: Pick<GatewayMetrics, "movesAsked" | "drainedSessions">;
    logger: Logger;
  }) {
    this.#sessions = options.sessions;
    this.#refuse = options.refuse;
    this.#fleet = options.fleet;
    this.#url = options.url;
    this.#drainMs = options.drainMs;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
    this.#departures = new Departures((outcome) => options.metrics.drainedSessions.inc({ outcome }));
  }

  /** Undefined before it begins. */
  get report(): DrainReport | undefined {
    return this.#running && this.#departures.report;
  }

  async start(): Promise<void> {
    this.#fleet.onChange(() => {
      if (this.#fleet.drainOrdered) void this.#begin();
    });
  }

  /** Resolves with the end of the drain, whoever began it. */
  async stop(): Promise<void> {
    await this.#begin();
  }

  async #begin(): Promise<void> {
    this.#running ??= this.#run().catch((error: unknown) => {
      this.#logger.error({ err: error }, "could not drain in order");
    });
    await this.#running;
  }

  async #run(): Promise<void> {
    const beganAt = performance.now();
    const { balancerMs, lastSlotMs, deadlineMs } = divideDrainTime(this.#drainMs);
    const departures = this.#departures;
    departures.begin();
    this.#refuse();
    departures.follow(this.#sessions());
    // Who was let in at that very moment is welcomed by then.
    await setImmediate();
    departures.follow(this.#sessions());
    this.#logger.info({ sessions: departures.staying.size, drainMs: this.#drainMs }, "draining");
    // Who else there is, as of now; where the registry is away, as it was.
    await this.#report();
    if (this.#fleet.others.length === 0) this.#sendAway();
    else {
      await departures.allGone(balancerMs);
      await this.#bySlots({ beganAt, lastSlotMs, deadlineMs });
    }
    await departures.allGone(beganAt + deadlineMs - performance.now());
    this.#force();
    await departures.allGone(closingMs);
    departures.end();
    this.#logger.info(departures.report, "drained");
    await this.#report();
  }

  async #report(): Promise<void> {
    await Promise.race([this.#fleet.report(), wait(registryMs, undefined, { ref: false })]);
  }

  /** Until everybody is gone, or the deadline. */
  async #bySlots(times: { beganAt: number; lastSlotMs: number; deadlineMs: number }): Promise<void> {
    const { beganAt, lastSlotMs, deadlineMs } = times;
    const departures = this.#departures;
    const order = shuffled([...departures.staying]);
    const schedule = new SlotSchedule({ count: order.length, beginMs: performance.now() - beganAt, lastSlotMs });
    let closed = 0;
    let toldAt = -Infinity;
    let knownNodes: readonly FleetNode[] = [];
    for (;;) {
      const nowMs = performance.now() - beganAt;
      if (departures.staying.size === 0 || nowMs >= deadlineMs) return;
      if (this.#isLeftAlone()) return this.#sendAway();
      schedule.advance(nowMs, this.#survivors);
      for (; closed < schedule.due; closed++) this.#closeInSlot(order[closed], deadlineMs - nowMs);
      const { nodes, others } = this.#fleet;
      if (nowMs - toldAt >= tellAgainMs && (schedule.hasShifted || nodes !== knownNodes)) {
        knownNodes = nodes;
        const hasShifted = schedule.hasShifted;
        const urls = new Set(others.map(({ url }) => url));
        const slots = order.flatMap((session, slot) => {
          const isDue = slot < closed;
          const isConcerned = this.#isMisdirected(session, urls) || (hasShifted && !isDue);
          return isConcerned ? [{ session, inMs: isDue ? Math.random() * tellAgainMs : schedule.inMs(slot) }] : [];
        });
        if (hasShifted) schedule.told();
        if (slots.length > 0) toldAt = nowMs;
        await this.#tell(slots, beganAt + deadlineMs);
      }
      await departures.allGone(tickMs);
    }
  }

  async #tell(slots: readonly { session: Session; inMs: number }[], deadline: number): Promise<void> {
    const toldAt = performance.now();
    const nextUrl = destinationsAmong(this.#fleet.others, this.#url);
    for (const [at, { session, inMs }] of slots.entries()) {
      if (at % tellBatch === tellBatch - 1) await setImmediate();
      if (session.moved || session.endedBy || session.disposed) continue;
      const now = performance.now();
      const url = nextUrl();
      this.#departures.asked(session);
      this.#sentTo.set(session, url);
      session.askToMove({
        reconnectInMs: Math.max(0, Math.round(inMs - (now - toldAt))),
        deadlineInMs: Math.max(0, Math.round(deadline - now)),
        ...(url !== undefined && { url }),
      });
      this.#metrics.movesAsked.inc({ cause: "drain" });
    }
  }

  /**
   * It was told of a node that is gone, or drains itself.
   * @param urls of those that take sessions.
   */
  #isMisdirected(session: Session, urls: ReadonlySet<string | undefined>): boolean {
    const url = this.#sentTo.get(session);
    const isWaiting = session.moves && !session.moved && !session.endedBy && !session.disposed;
    return url !== undefined && isWaiting && !urls.has(url);
  }

  /** Whoever moves by itself is left to do so. */
  #closeInSlot(session: Session | undefined, leftMs: number): void {
    if (!session || session.moves || session.moved) return;
    closeInOrder(session, { reason, answersMs: Math.min(maxAnswersMs, leftMs), retryAfterMs: 0 });
  }

  /** There is nobody else to take them: they come back once somebody does. */
  #sendAway(): void {
    const { staying } = this.#departures;
    const { windowMs } = reconnectPolicy(staying.size, this.#fleet.budgetPerSecond);
    const answersMs = Math.min(maxAnswersMs, this.#drainMs / 2);
    for (const session of staying) {
      closeInOrder(session, { reason, answersMs, retryAfterMs: Math.round(Math.random() * windowMs) });
    }
  }

  /** The deadline is past. */
  #force(): void {
    const { staying } = this.#departures;
    const { windowMs } = reconnectPolicy(staying.size, this.#survivors.admissionsPerSecond);
    for (const session of staying) {
      if (session.endedBy) continue;
      this.#departures.overdue(session);
      // With leave to stay for longer, by an order of before.
      if (session.moved) {
        session.succession.mayStayFor(0);
        continue;
      }
      session.end("draining", reason, { reconnect: true, retryAfterMs: Math.round(Math.random() * windowMs) });
    }
  }

  #isLeftAlone(): boolean {
    if (this.#fleet.others.length > 0) this.#aloneSince = undefined;
    else this.#aloneSince ??= performance.now();
    return this.#aloneSince !== undefined && performance.now() - this.#aloneSince >= aloneForMs;
  }

  get #survivors(): Survivors {
    const { nodes, others, budgetPerSecond } = this.#fleet;
    const ours = this.#departures.staying.size;
    const draining = nodes.filter(({ state }) => state === "draining");
    const sent = draining.reduce((sum, { connections }) => sum + connections, 0);
    return {
      admissionsPerSecond: others.reduce((sum, node) => sum + node.sharePerSecond, 0) || budgetPerSecond,
      factor: Math.max(0, ...others.map(({ factor }) => factor)),
      ourPart: ours === 0 ? 1 : ours / Math.max(ours, sent),
    };
  }
}

function shuffled<T>(items: T[]): T[] {
  for (let at = items.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [items[at], items[other]] = [items[other] as T, items[at] as T];
  }
  return items;
}
