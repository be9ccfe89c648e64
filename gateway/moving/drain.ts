import { setImmediate } from "node:timers/promises";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import type { FleetNode } from "../../shared/nodes/contract.ts";
import { reconnectPolicy } from "../entrance/reconnect-window.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "../sessions/session.ts";
import { closeGracefully, maxAnswersMs } from "./close-gracefully.ts";
import { destinationPicker } from "./destination.ts";
import type { DrainProgress } from "./drain-progress.ts";
import { divideDrainTime, DrainSchedule, type Survivors } from "./drain-schedule.ts";

/** Sessions whose move time has come are closed this often, several at once where there are many. */
const tickMs = 50;
/** Sessions notified in one turn of the event loop. */
const notifyBatch = 500;
/** Shortest time between two rounds of changed move times. */
const notifyAgainMs = 2_000;
/** After the deadline: time for the last notices to reach clients. */
const closingMs = 3_000;
/** The node counts as alone after this: a registry that has just lost its memory shows no other node for a moment. */
const aloneForMs = 3_000;
/** Longest wait for the registry to list the fleet. */
const registryMs = 500;
const reason = "this node is stopping";

interface DrainOptions {
  sessions: () => readonly Session[];
  /** Makes the door refuse every new connection. */
  refuse: () => void;
  /** Whether the door takes more than connections: webhooks arrive until the balancer has seen the drain. */
  receives: () => boolean;
  fleet: FleetMember;
  /** Of this node, as in its reports. */
  url: string | undefined;
  progress: DrainProgress;
  drainMs: number;
  metrics: Pick<GatewayMetrics, "movesAsked">;
  logger: Logger;
}

/**
 * Moves every session of this node to another node, each at its move time, because the node stops or an operator ordered it.
 * From the beginning on the node refuses connections; it stays in the fleet until the drain is over.
 */
export class Drain implements Service {
  readonly #options: DrainOptions;
  /** The URL that each session was sent to; undefined: the balancer decides. */
  readonly #sentTo = new WeakMap<Session, string | undefined>();
  #running: Promise<void> | undefined;
  #aloneSince: number | undefined;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#options.fleet.onReport(() => {
      if (this.#options.fleet.drainOrdered) void this.#begin();
    });
  }

  /** Drains, or awaits the drain under way. */
  async stop(): Promise<void> {
    await this.#begin();
  }

  async #begin(): Promise<void> {
    this.#running ??= this.#run().catch((error: unknown) => {
      this.#options.logger.error({ err: error }, "drain failed");
    });
    await this.#running;
  }

  async #run(): Promise<void> {
    const { sessions, refuse, receives, fleet, progress, drainMs, logger } = this.#options;
    const beganAt = performance.now();
    const { balancerMs, lastMoveMs, deadlineMs } = divideDrainTime(drainMs);
    progress.begin();
    refuse();
    progress.track(sessions());
    // A session admitted just before the door closed is welcomed by then.
    await setImmediate();
    progress.track(sessions());
    logger.info({ sessions: progress.remaining.size, drainMs }, "draining");
    // Refreshes the list of other nodes; while the registry is away the last list counts.
    await this.#report();
    if (fleet.others.length === 0) this.#closeAll();
    else {
      await progress.allGone(balancerMs);
      await this.#moveOnSchedule({ beganAt, lastMoveMs, deadlineMs });
    }
    await progress.allGone(beganAt + deadlineMs - performance.now());
    this.#force();
    await progress.allGone(closingMs);
    if (receives() && fleet.others.length > 0) {
      const leftMs = Math.max(0, beganAt + balancerMs - performance.now());
      await new Promise<void>((resolve) => setTimeout(resolve, leftMs));
    }
    progress.end();
    logger.info(progress.report, "drained");
    await this.#report();
  }

  async #report(): Promise<void> {
    await withDeadline(this.#options.fleet.report(), registryMs, () => undefined);
  }

  /** Until every session is gone, or the deadline. */
  async #moveOnSchedule(times: { beganAt: number; lastMoveMs: number; deadlineMs: number }): Promise<void> {
    const { beganAt, lastMoveMs, deadlineMs } = times;
    const { fleet, progress } = this.#options;
    const order = shuffled([...progress.remaining]);
    const schedule = new DrainSchedule({ count: order.length, beginMs: performance.now() - beganAt, lastMoveMs });
    let closed = 0;
    let notifiedAt = -Infinity;
    let knownNodes: readonly FleetNode[] = [];
    for (;;) {
      const nowMs = performance.now() - beganAt;
      if (progress.remaining.size === 0 || nowMs >= deadlineMs) return;
      if (this.#isAlone()) return this.#closeAll();
      schedule.advance(nowMs, this.#survivors);
      for (; closed < schedule.due; closed++) this.#closeWhenDue(order[closed], deadlineMs - nowMs);
      const { nodes, others } = fleet;
      if (nowMs - notifiedAt >= notifyAgainMs && (schedule.hasShifted || nodes !== knownNodes)) {
        knownNodes = nodes;
        const hasShifted = schedule.hasShifted;
        const urls = new Set(others.map(({ url }) => url));
        const moves = order.flatMap((session, index) => {
          const isDue = index < closed;
          const isConcerned = this.#isMisdirected(session, urls) || (hasShifted && !isDue);
          return isConcerned ? [{ session, inMs: isDue ? Math.random() * notifyAgainMs : schedule.inMs(index) }] : [];
        });
        if (hasShifted) schedule.announced();
        if (moves.length > 0) notifiedAt = nowMs;
        await this.#notify(moves, beganAt + deadlineMs);
      }
      await progress.allGone(tickMs);
    }
  }

  async #notify(moves: readonly { session: Session; inMs: number }[], deadline: number): Promise<void> {
    const { fleet, url: ownUrl, progress, metrics } = this.#options;
    const notifiedAt = performance.now();
    const nextUrl = destinationPicker(fleet.others, ownUrl);
    for (const [at, { session, inMs }] of moves.entries()) {
      if (at % notifyBatch === notifyBatch - 1) await setImmediate();
      if (session.moved || session.endedBy || session.disposed) continue;
      const now = performance.now();
      const url = nextUrl();
      progress.markAsked(session);
      this.#sentTo.set(session, url);
      session.askToMove({
        reconnectInMs: Math.max(0, Math.round(inMs - (now - notifiedAt))),
        deadlineInMs: Math.max(0, Math.round(deadline - now)),
        ...(url !== undefined && { url }),
      });
      metrics.movesAsked.inc({ cause: "drain" });
    }
  }

  /**
   * Whether the session's client was sent to a node that is gone or draining by now.
   * @param urls of the nodes that take sessions.
   */
  #isMisdirected(session: Session, urls: ReadonlySet<string | undefined>): boolean {
    const url = this.#sentTo.get(session);
    const isWaiting = session.moves && !session.moved && !session.endedBy && !session.disposed;
    return url !== undefined && isWaiting && !urls.has(url);
  }

  /** Closes a session at its move time, unless its client moves by itself. */
  #closeWhenDue(session: Session | undefined, leftMs: number): void {
    if (!session || session.moves || session.moved) return;
    closeGracefully(session, { reason, answersMs: Math.min(maxAnswersMs, leftMs), retryAfterMs: 0 });
  }

  /** No other node takes sessions: closes them all, and clients retry until a node is there again. */
  #closeAll(): void {
    const { fleet, progress, drainMs } = this.#options;
    const { windowMs } = reconnectPolicy(progress.remaining.size, fleet.budgetPerSecond);
    const answersMs = Math.min(maxAnswersMs, drainMs / 2);
    for (const session of progress.remaining) {
      closeGracefully(session, { reason, answersMs, retryAfterMs: Math.round(Math.random() * windowMs) });
    }
  }

  /** At the deadline: ends the sessions that are still open. */
  #force(): void {
    const { progress } = this.#options;
    const { windowMs } = reconnectPolicy(progress.remaining.size, this.#survivors.admissionsPerSecond);
    for (const session of progress.remaining) {
      if (session.endedBy) continue;
      progress.markOverdue(session);
      // An earlier order may allow it to stay beside its newer connection for longer than this drain.
      if (session.moved) {
        session.succession.mayStayFor(0);
        continue;
      }
      session.end("draining", reason, { reconnect: true, retryAfterMs: Math.round(Math.random() * windowMs) });
    }
  }

  /** No other node has taken sessions for {@link aloneForMs}. */
  #isAlone(): boolean {
    if (this.#options.fleet.others.length > 0) this.#aloneSince = undefined;
    else this.#aloneSince ??= performance.now();
    return this.#aloneSince !== undefined && performance.now() - this.#aloneSince >= aloneForMs;
  }

  get #survivors(): Survivors {
    const { fleet, progress } = this.#options;
    const { nodes, others, budgetPerSecond } = fleet;
    const ours = progress.remaining.size;
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
