import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "../sessions/session.ts";
import { closeInOrder, maxAnswersMs } from "./close-in-order.ts";
import { destinationsAmong } from "./destination.ts";
import { Surplus } from "./surplus.ts";

const tickMs = 250;
/** Those that are asked together go one after the other within this. */
const spreadMs = 2_000;
/** By then another node has reported whoever has come to it. */
const reportedMs = 2_500;
/** Whoever has moved is served so long beside its new connection. */
const stayMs = 30_000;
/** Sent back to us by the balancer: not asked again for so long. */
const restMs = 600_000;
/** Sessions that rest; of more the oldest may be asked again. */
const maxResting = 10_000;
/** Of the fleet's admissions, for sessions whose lifetime is over. */
const usedForLifetimes = 0.1;
const lifetimeDither = 0.1;
const reason = "this session goes on at another node";

type Cause = "rebalance" | "lifetime";

interface Leaving {
  /** By `performance.now()`. */
  slotAt: number;
  deadlineAt: number;
}

/**
 * Asks sessions to go on elsewhere while the node goes on: some of those it has too many of, after others have come, and,
 * where that is set, each after its lifetime. Clients that move by themselves are asked first.
 */
export class HandOver implements Service {
  readonly #sessions: () => readonly Session[];
  readonly #accepting: () => boolean;
  readonly #instance: string;
  readonly #fleet: FleetMember;
  readonly #url: string | undefined;
  readonly #lifetimeMs: number;
  readonly #errors: ContainedErrors;
  readonly #metrics: Pick<GatewayMetrics, "movesAsked">;
  readonly #surplus = new Surplus();
  readonly #leaving = new Map<Session, Leaving>();
  /** When they left, by `performance.now()`. */
  #gone: number[] = [];
  /** By their id, until when. */
  readonly #resting = new Map<string, number>();
  readonly #ends = new WeakMap<Session, number>();
  #decidedAt = 0;
  #lifetimeCredit = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param options.url of this node, as the fleet knows it.
   * @param options.lifetimeMs more or less a tenth; 0: without end.
   */
  constructor(options: {
    sessions: () => readonly Session[];
    accepting: () => boolean;
    instance: string;
    fleet: FleetMember;
    url: string | undefined;
    lifetimeMs: number;
    errors: ContainedErrors;
    metrics: Pick<GatewayMetrics, "movesAsked">;
  }) {
    this.#sessions = options.sessions;
    this.#accepting = options.accepting;
    this.#instance = options.instance;
    this.#fleet = options.fleet;
    this.#url = options.url;
    this.#lifetimeMs = options.lifetimeMs;
    this.#errors = options.errors;
    this.#metrics = options.metrics;
  }

  async start(): Promise<void> {
    this.#decidedAt = performance.now();
    this.#fleet.onChange(() => this.#rebalance());
    this.#timer = this.#errors.every(tickMs, () => this.#tick()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #rebalance(): void {
    const now = performance.now();
    const elapsedMs = now - this.#decidedAt;
    this.#decidedAt = now;
    if (!this.#accepting()) return;
    const { nodes, budgetPerSecond } = this.#fleet;
    const wanted = this.#surplus.decide({
      nodes,
      instance: this.#instance,
      leaving: this.#leaving.size,
      gone: this.#gone.length,
      budgetPerSecond,
      elapsedMs,
    });
    if (wanted === 0) return;
    // Those whose users came first: whoever was sent back to us is not among them.
    const candidates = this.#sessions().filter((session) => this.#mayBeAsked(session));
    const willing = candidates.filter(({ moves }) => moves).slice(0, wanted);
    const others = candidates.filter(({ moves }) => !moves).slice(0, wanted - willing.length);
    for (const session of [...willing, ...others]) this.#ask(session, "rebalance");
  }

  #tick(): void {
    if (!this.#accepting()) return;
    const now = performance.now();
    for (const [id, until] of this.#resting) {
      if (until > now) break;
      this.#resting.delete(id);
    }
    this.#gone = this.#gone.filter((at) => now - at < reportedMs);
    for (const [session, { slotAt, deadlineAt }] of this.#leaving) {
      if (session.disposed) {
        this.#leaving.delete(session);
        this.#gone.push(now);
      } else if (now >= deadlineAt) this.#leaving.delete(session);
      else if (now >= slotAt && !session.moves && !session.moved) {
        this.#leaving.set(session, { slotAt: Infinity, deadlineAt });
        closeInOrder(session, { reason, answersMs: maxAnswersMs, retryAfterMs: 0 });
      }
    }
    if (this.#lifetimeMs > 0) this.#endLifetimes(now);
  }

  #endLifetimes(now: number): void {
    const { nodes, budgetPerSecond } = this.#fleet;
    const perSecond = (usedForLifetimes * budgetPerSecond) / Math.max(1, nodes.length);
    this.#lifetimeCredit = Math.min(Math.max(1, perSecond), this.#lifetimeCredit + (perSecond * tickMs) / 1000);
    for (const session of this.#sessions()) {
      if (this.#lifetimeCredit < 1) return;
      if (now < this.#endOf(session) || !this.#mayBeAsked(session)) continue;
      this.#lifetimeCredit--;
      this.#ask(session, "lifetime");
    }
  }

  #endOf(session: Session): number {
    const known = this.#ends.get(session);
    if (known !== undefined) return known;
    const dither = 1 + (Math.random() * 2 - 1) * lifetimeDither;
    const end = session.openedAt + this.#lifetimeMs * dither;
    this.#ends.set(session, end);
    return end;
  }

  #mayBeAsked(session: Session): boolean {
    const isHere = session.welcomed && !session.endedBy && !session.moved;
    return isHere && !this.#leaving.has(session) && !this.#resting.has(session.id);
  }

  #ask(session: Session, cause: Cause): void {
    const now = performance.now();
    const reconnectInMs = Math.round(Math.random() * spreadMs);
    const deadlineInMs = reconnectInMs + stayMs;
    const url = destinationsAmong(this.#fleet.others, this.#url)();
    this.#leaving.set(session, { slotAt: now + reconnectInMs, deadlineAt: now + deadlineInMs });
    this.#resting.set(session.id, now + restMs);
    const [oldest] = this.#resting.keys();
    if (this.#resting.size > maxResting && oldest !== undefined) this.#resting.delete(oldest);
    session.askToMove({ reconnectInMs, deadlineInMs, ...(url !== undefined && { url }) });
    this.#metrics.movesAsked.inc({ cause });
  }
}
