import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "../sessions/session.ts";
import { closeGracefully, maxAnswersMs } from "./close-gracefully.ts";
import { destinationPicker } from "./destination.ts";
import { RebalanceQuota } from "./rebalance-quota.ts";

const tickMs = 250;
/** A decision counts no more time than this since the one before: after a pause, or an outage of the registry, it would ask all surplus sessions at once. */
const maxElapsedMs = 2_000;
/** Sessions asked together move at random times within this. */
const spreadMs = 2_000;
/** Within this the receiving node has reported a session that moved. */
const reportedMs = 2_500;
/** How long a session that has moved is served beside its new connection. */
const overlapMs = 30_000;
/** A session that the balancer sends back to this node is not asked again for this long. */
const restMs = 600_000;
/** Longest list of resting sessions; beyond it the oldest may be asked again. */
const maxResting = 10_000;
/** Part of the fleet's admissions for sessions whose lifetime is over. */
const usedForLifetimes = 0.1;
const lifetimeJitter = 0.1;
const reason = "this session moves to another node";

type Cause = "rebalance" | "lifetime";

/** Times by `performance.now()`. */
interface Leaving {
  moveAt: number;
  deadlineAt: number;
}

interface RebalancerOptions {
  sessions: () => readonly Session[];
  accepting: () => boolean;
  instance: string;
  fleet: FleetMember;
  /** Of this node, as in its reports. */
  url: string | undefined;
  /** Plus or minus a tenth; 0: sessions have no end. */
  lifetimeMs: number;
  errors: ContainedErrors;
  metrics: Pick<GatewayMetrics, "movesAsked">;
}

/**
 * Asks sessions to move while the node keeps running: surplus ones after other nodes have joined, and, where a lifetime is
 * set, each at the end of its lifetime. Clients that move by themselves are asked first.
 */
export class Rebalancer implements Service {
  readonly #options: RebalancerOptions;
  readonly #quota = new RebalanceQuota();
  readonly #leaving = new Map<Session, Leaving>();
  /** When asked sessions left, by `performance.now()`. */
  #gone: number[] = [];
  /** Session id → end of its rest, by `performance.now()`. */
  readonly #resting = new Map<string, number>();
  readonly #lifetimeEnds = new WeakMap<Session, number>();
  #decidedAt = 0;
  #lifetimeCredit = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RebalancerOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#decidedAt = performance.now();
    this.#options.fleet.onReport(() => this.#rebalance());
    this.#timer = this.#options.errors.every(tickMs, () => this.#tick()).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  #rebalance(): void {
    const now = performance.now();
    const elapsedMs = Math.min(now - this.#decidedAt, maxElapsedMs);
    this.#decidedAt = now;
    if (!this.#options.accepting()) return;
    const { nodes, budgetPerSecond } = this.#options.fleet;
    const wanted = this.#quota.next({
      nodes,
      instance: this.#options.instance,
      leaving: this.#leaving.size,
      gone: this.#gone.length,
      budgetPerSecond,
      elapsedMs,
    });
    if (wanted === 0) return;
    // Longest-connected users first: sessions that the balancer sent back come last.
    const candidates = this.#options.sessions().filter((session) => this.#mayBeAsked(session));
    const willing = candidates.filter(({ moves }) => moves).slice(0, wanted);
    const others = candidates.filter(({ moves }) => !moves).slice(0, wanted - willing.length);
    for (const session of [...willing, ...others]) this.#ask(session, "rebalance");
  }

  #tick(): void {
    if (!this.#options.accepting()) return;
    const now = performance.now();
    for (const [id, until] of this.#resting) {
      if (until > now) break;
      this.#resting.delete(id);
    }
    this.#gone = this.#gone.filter((at) => now - at < reportedMs);
    for (const [session, { moveAt, deadlineAt }] of this.#leaving) {
      if (session.disposed) {
        this.#leaving.delete(session);
        this.#gone.push(now);
      } else if (now >= deadlineAt) this.#leaving.delete(session);
      else if (now >= moveAt && !session.moves && !session.moved) {
        this.#leaving.set(session, { moveAt: Infinity, deadlineAt });
        closeGracefully(session, { reason, answersMs: maxAnswersMs, retryAfterMs: 0 });
      }
    }
    if (this.#options.lifetimeMs > 0) this.#endLifetimes(now);
  }

  #endLifetimes(now: number): void {
    const { nodes, budgetPerSecond } = this.#options.fleet;
    const perSecond = (usedForLifetimes * budgetPerSecond) / Math.max(1, nodes.length);
    this.#lifetimeCredit = Math.min(Math.max(1, perSecond), this.#lifetimeCredit + (perSecond * tickMs) / 1000);
    for (const session of this.#options.sessions()) {
      if (this.#lifetimeCredit < 1) return;
      if (now < this.#lifetimeEnd(session) || !this.#mayBeAsked(session)) continue;
      this.#lifetimeCredit--;
      this.#ask(session, "lifetime");
    }
  }

  #lifetimeEnd(session: Session): number {
    const known = this.#lifetimeEnds.get(session);
    if (known !== undefined) return known;
    const end = session.openedAt + jittered(this.#options.lifetimeMs, lifetimeJitter);
    this.#lifetimeEnds.set(session, end);
    return end;
  }

  #mayBeAsked(session: Session): boolean {
    const isHere = session.welcomed && !session.endedBy && !session.moved;
    return isHere && !this.#leaving.has(session) && !this.#resting.has(session.id);
  }

  #ask(session: Session, cause: Cause): void {
    const now = performance.now();
    const reconnectInMs = Math.round(Math.random() * spreadMs);
    const deadlineInMs = reconnectInMs + overlapMs;
    const url = destinationPicker(this.#options.fleet.others, this.#options.url)();
    this.#leaving.set(session, { moveAt: now + reconnectInMs, deadlineAt: now + deadlineInMs });
    this.#resting.set(session.id, now + restMs);
    const [oldest] = this.#resting.keys();
    if (this.#resting.size > maxResting && oldest !== undefined) this.#resting.delete(oldest);
    session.askToMove({ reconnectInMs, deadlineInMs, ...(url !== undefined && { url }) });
    this.#options.metrics.movesAsked.inc({ cause });
  }
}
