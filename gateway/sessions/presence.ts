import { maxListedSessions } from "../../shared/protocol/limits.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { NodeHoldings } from "./node-holdings.ts";
import type { Session } from "./session.ts";
import type { Subscription } from "../channels/subscription.ts";

/** Makes sessions present in the channels they follow, where the namespace has presence. */
export class Presence {
  readonly #holdings: NodeHoldings;
  readonly #rules: CurrentRules;

  constructor(options: { holdings: NodeHoldings; rules: CurrentRules }) {
    this.#holdings = options.holdings;
    this.#rules = options.rules;
  }

  /** A second call updates what others see of the session. */
  enter(session: Session, { channel, access }: Subscription): void {
    const namespace = this.#rules.rules.namespace(channel);
    if (!namespace.presence) return this.leave(session, channel);
    const info = access?.by === "grant" && access.info !== undefined ? access.info : session.info;
    const announceUpTo = namespace.joinLeave ? maxListedSessions : 0;
    const membership = { session: session.stored, channel, info, announceUpTo };
    session.memberships.set(channel, membership);
    this.#holdings.enter(membership);
  }

  /** Others in the channel are notified of its join and leave. */
  isAnnounced(session: Session, channel: string): boolean {
    return (session.memberships.get(channel)?.announceUpTo ?? 0) > 0;
  }

  /** The connection has closed. A session that may resume soon lingers, so that its return is neither a leave nor a join. */
  leaveAll(session: Session): void {
    for (const membership of session.memberships.values()) {
      if (session.mayReturn) this.#holdings.leaveSoon(membership);
      else this.#holdings.leave(membership);
    }
    session.memberships.clear();
  }

  leave(session: Session, channel: string): void {
    const membership = session.memberships.get(channel);
    if (!membership) return;
    session.memberships.delete(channel);
    this.#holdings.leave(membership);
  }
}
