/** What a drain has asked of its sessions: to move to which node, and when. */
import { setImmediate } from "node:timers/promises";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "../sessions/session.ts";
import { destinationPicker } from "./destination.ts";
import type { DrainProgress } from "./drain-progress.ts";

/** Sessions notified in one turn of the event loop. */
const notifyBatch = 500;

export interface MoveOrdersOptions {
  fleet: Pick<FleetMember, "others">;
  /** Of this node, as in its reports. */
  url: string | undefined;
  progress: Pick<DrainProgress, "markAsked">;
  metrics: Pick<GatewayMetrics, "movesAsked">;
}

export class MoveOrders {
  readonly #options: MoveOrdersOptions;
  /** The URL that each session was sent to; undefined: the balancer decides. */
  #sentTo = new WeakMap<Session, string | undefined>();

  constructor(options: MoveOrdersOptions) {
    this.#options = options;
  }

  /** @param drain.deadline by `performance.now()` */
  async give(
    moves: readonly { session: Session; inMs: number }[],
    drain: { deadline: number; isCalledOff: () => boolean },
  ): Promise<void> {
    const { fleet, url: ownUrl, progress, metrics } = this.#options;
    const notifiedAt = performance.now();
    const nextUrl = destinationPicker(fleet.others, ownUrl);
    for (const [at, { session, inMs }] of moves.entries()) {
      if (at % notifyBatch === notifyBatch - 1) await setImmediate();
      if (drain.isCalledOff()) return;
      if (session.moved || session.endedBy || session.disposed) continue;
      const now = performance.now();
      const url = nextUrl();
      progress.markAsked(session);
      this.#sentTo.set(session, url);
      session.askToMove({
        reconnectInMs: Math.max(0, Math.round(inMs - (now - notifiedAt))),
        deadlineInMs: Math.max(0, Math.round(drain.deadline - now)),
        ...(url !== undefined && { url }),
      });
      metrics.movesAsked.inc({ cause: "drain" });
    }
  }

  /** The drain was called off: asks these sessions to stay. */
  takeBack(sessions: readonly Session[]): void {
    for (const session of sessions) if (this.#sentTo.has(session)) session.askToStay();
    this.#sentTo = new WeakMap();
  }

  /**
   * Whether the session's client was sent to a node that is gone or draining by now.
   * @param urls of the nodes that take sessions
   */
  isMisdirected(session: Session, urls: ReadonlySet<string | undefined>): boolean {
    const url = this.#sentTo.get(session);
    const isWaiting = session.moves && !session.moved && !session.endedBy && !session.disposed;
    return url !== undefined && isWaiting && !urls.has(url);
  }
}
