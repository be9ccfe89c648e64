import { setImmediate } from "node:timers/promises";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import type { FleetNode } from "../../shared/nodes/contract.ts";
import { reconnectPolicy } from "../entrance/reconnect-window.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { Session } from "../sessions/session.ts";
import { closeGracefully, maxAnswersMs } from "./close-gracefully.ts";
import type { DrainProgress } from "./drain-progress.ts";
import { divideDrainTime, DrainSchedule, type Survivors } from "./drain-schedule.ts";
import { MoveOrders, type MoveOrdersOptions } from "./move-orders.ts";

/** Sessions whose move time has come are closed this often, several at once where there are many. */
const tickMs = 50;
/** Shortest time between two rounds of changed move times. */
const notifyAgainMs = 2_000;
/** After the deadline: time for the last notices to reach clients. */
const closingMs = 3_000;
/** The node counts as alone after this: a registry that has just lost its memory shows no other node for a moment. */
const aloneForMs = 3_000;
/** Longest wait for the registry to list the fleet. */
const registryMs = 500;
const reason = "this node is stopping";

interface DrainOptions extends MoveOrdersOptions {
  sessions: () => readonly Session[];
  /** Makes the door refuse every new connection. */
  refuse: () => void;
  /** Takes that back. */
  accept: () => void;
  /** Whether the door takes more than connections: webhooks arrive until the balancer has seen the drain. */
  receives: () => boolean;
  fleet: FleetMember;
  progress: DrainProgress;
  drainMs: number;
  logger: Logger;
}

/** One drain, from its order to the next order that calls it off. */
interface Run {
  isCalledOff: boolean;
  ended: Promise<void>;
}

/**
 * Moves every session of this node to another node, each at its move time, because the node stops or an operator ordered it.
 * The node refuses connections from the start and stays in the fleet until the drain ends. An operator may call an
 * ordered drain off, also after its end: the node then takes sessions again.
 */
export class Drain implements Service {
  readonly #options: DrainOptions;
  readonly #orders: MoveOrders;
  #run: Run | undefined;
  #aloneSince: number | undefined;
  #isStopping = false;

  constructor(options: DrainOptions) {
    this.#options = options;
    this.#orders = new MoveOrders(options);
  }

  async start(): Promise<void> {
    this.#options.fleet.onReport(() => {
      const { order } = this.#options.fleet;
      if (order === "drain") void this.#begin();
      else if (order === "undrain" && this.#run && !this.#isStopping) this.#callOff(this.#run);
    });
  }

  /** Drains, or awaits the drain under way. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#begin();
  }

  async #begin(): Promise<void> {
    if (!this.#run) {
      const run: Run = { isCalledOff: false, ended: Promise.resolve() };
      this.#run = run;
      run.ended = this.#drain(run).catch((error: unknown) => {
        this.#options.logger.error({ err: error }, "drain failed");
      });
    }
    await this.#run.ended;
  }

  /** Sessions that have not begun to move stay here. */
  #callOff(run: Run): void {
    const { progress, accept, logger } = this.#options;
    run.isCalledOff = true;
    this.#run = undefined;
    this.#aloneSince = undefined;
    const stay = [...progress.remaining].filter((session) => !session.moved && !session.endedBy);
    this.#orders.takeBack(stay);
    logger.info({ ...progress.report, stay: stay.length }, "drain called off");
    progress.callOff();
    accept();
    void this.#report();
  }

  async #drain(run: Run): Promise<void> {
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
    if (run.isCalledOff) return;
    if (fleet.others.length === 0) this.#closeAll(run);
    else {
      await progress.allGone(balancerMs);
      await this.#moveOnSchedule(run, { beganAt, lastMoveMs, deadlineMs });
    }
    if (run.isCalledOff) return;
    await progress.allGone(beganAt + deadlineMs - performance.now());
    if (run.isCalledOff) return;
    this.#force();
    await progress.allGone(closingMs);
    if (receives() && fleet.others.length > 0) {
      const leftMs = Math.max(0, beganAt + balancerMs - performance.now());
      await new Promise<void>((resolve) => setTimeout(resolve, leftMs));
    }
    if (run.isCalledOff) return;
    progress.end();
    logger.info(progress.report, "drained");
    await this.#report();
  }

  async #report(): Promise<void> {
    await withDeadline(this.#options.fleet.report(), registryMs, () => undefined);
  }

  /** Until every session is gone, the deadline, or the drain is called off. */
  async #moveOnSchedule(run: Run, times: { beganAt: number; lastMoveMs: number; deadlineMs: number }): Promise<void> {
    const { beganAt, lastMoveMs, deadlineMs } = times;
    const { fleet, progress } = this.#options;
    const order = shuffled([...progress.remaining]);
    const schedule = new DrainSchedule({ count: order.length, beginMs: performance.now() - beganAt, lastMoveMs });
    let closed = 0;
    let notifiedAt = -Infinity;
    let knownNodes: readonly FleetNode[] = [];
    for (;;) {
      const nowMs = performance.now() - beganAt;
      if (run.isCalledOff || progress.remaining.size === 0 || nowMs >= deadlineMs) return;
      if (this.#isAlone()) return this.#closeAll(run);
      schedule.advance(nowMs, this.#survivors);
      for (; closed < schedule.due; closed++) this.#closeWhenDue(run, order[closed], deadlineMs - nowMs);
      const { nodes, others } = fleet;
      if (nowMs - notifiedAt >= notifyAgainMs && (schedule.hasShifted || nodes !== knownNodes)) {
        knownNodes = nodes;
        const hasShifted = schedule.hasShifted;
        const urls = new Set(others.map(({ url }) => url));
        const moves = order.flatMap((session, index) => {
          const isDue = index < closed;
          const isConcerned = this.#orders.isMisdirected(session, urls) || (hasShifted && !isDue);
          return isConcerned ? [{ session, inMs: isDue ? Math.random() * notifyAgainMs : schedule.inMs(index) }] : [];
        });
        if (hasShifted) schedule.announced();
        if (moves.length > 0) notifiedAt = nowMs;
        await this.#orders.give(moves, { deadline: beganAt + deadlineMs, isCalledOff: () => run.isCalledOff });
      }
      await progress.allGone(tickMs);
    }
  }

  /** Closes a session at its move time, unless its client moves by itself. */
  #closeWhenDue(run: Run, session: Session | undefined, leftMs: number): void {
    if (!session || session.moves || session.moved) return;
    this.#close(run, session, { answersMs: Math.min(maxAnswersMs, leftMs), retryAfterMs: 0 });
  }

  /** No other node takes sessions: closes them all, and clients retry until a node is there again. */
  #closeAll(run: Run): void {
    const { fleet, progress, drainMs } = this.#options;
    const { windowMs } = reconnectPolicy(progress.remaining.size, fleet.budgetPerSecond);
    const answersMs = Math.min(maxAnswersMs, drainMs / 2);
    for (const session of progress.remaining) {
      this.#close(run, session, { answersMs, retryAfterMs: Math.round(Math.random() * windowMs) });
    }
  }

  /** A session that still waits for answers when the drain is called off stays. */
  #close(run: Run, session: Session, waits: { answersMs: number; retryAfterMs: number }): void {
    closeGracefully(session, { reason, ...waits, isCalledOff: () => run.isCalledOff });
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
