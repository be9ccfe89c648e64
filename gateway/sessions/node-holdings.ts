import { identityKey } from "../../shared/protocol/identity-key.ts";
import type { SessionEvents } from "../../shared/queues/session-events.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import type * as contract from "../../shared/sessions/contract.ts";
import { graceMs, leaseMs, lingerMs } from "../../shared/sessions/contract.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import { NodeLease } from "./node-lease.ts";
import type { Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";

/** Mean time between two renewals of the lease. */
const beatMs = 1_000;
/** Sessions that are announced together, with all their channels. */
const announceBatch = 50;
/** Between two announcements of everything while a part of the store is away: the other parts have all of it already. */
const partlyAwayMs = 30_000;

interface NodeHoldingsOptions {
  store: contract.SessionStore;
  node: string;
  sessions: Pick<Sessions, "all" | "follow">;
  events: Pick<SessionEvents, "requestedFor" | "expect">;
  metrics: Pick<GatewayMetrics, "sweptNodes" | "announcements">;
  logger: Logger;
}

/**
 * This node's sessions, and their channels, in the session store, under a lease. Where the store may lack something, or
 * may have kept what has ended, the node takes another name, announces everything under it, and abandons the former name.
 * While a part of the store is away the rest is announced, and the former names stay.
 */
export class NodeHoldings implements Service {
  readonly #options: NodeHoldingsOptions;
  #onWithdrawn: (session: Session) => void = () => undefined;
  readonly #lease: NodeLease;
  /** The store has under the node's name what the node has. */
  #complete = false;
  /** A part of the store that is away did not take them. */
  #unannounced: readonly Session[] = [];
  /** When everything was announced last, but for these, by `performance.now()`. */
  #announcedAllAt = -Infinity;
  /** Memberships of closed connections, oldest first. `until`: by `performance.now()`. */
  #lingering: { membership: Omit<contract.Membership, "holder">; until: number }[] = [];
  #beating: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: NodeHoldingsOptions) {
    this.#options = options;
    this.#lease = new NodeLease(options);
  }

  /** Called for a session whose grants the store reports as withdrawn; one listener. */
  onWithdrawn(listener: (session: Session) => void): void {
    this.#onWithdrawn = listener;
  }

  async start(): Promise<void> {
    await this.#beat();
    this.#schedule();
  }

  /** The sessions have ended: those that do not resume elsewhere soon are swept. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#beating;
    try {
      await this.#lease.abandon();
    } catch (error) {
      this.#options.logger.debug({ err: error }, "the lease could not be abandoned and will expire");
    }
  }

  /** This node may have missed messages, and the store may have lost writes. */
  onRestored(): void {
    // Under another name the store would drop at once what is left under this one.
    if (this.#stopped) return;
    this.#complete = false;
    this.#announcedAllAt = -Infinity;
    this.#lease.interrupted();
    void this.#beat();
  }

  /**
   * @param identity of the session, for the services that get session events.
   * @throws TidegateError `broker_unavailable`: the claim may have been made.
   */
  async claim(
    request: Omit<contract.ClaimRequest, "holder" | "node" | "events">,
    identity: Identity,
  ): Promise<contract.ClaimOutcome> {
    const { store, node, events: sessionEvents } = this.#options;
    const { holder } = this.#lease;
    try {
      const begins = request.mode === "begin";
      const events = sessionEvents.requestedFor(identity, { node, begins });
      const outcome = await store.claim({ ...request, holder, node, ...(events && { events }) });
      if (outcome.kind === "held" && holder !== this.#lease.holder) {
        // Written under a name that is being abandoned: writes it again under the next name. A newer claim arrives as a message.
        const held = { claim: outcome.claim, checkedAt: outcome.checkedAt };
        await this.claim({ ...request, mode: "announce", ...held }, identity);
      }
      if (events?.connected) sessionEvents.expect(identityKey(request), 0);
      return outcome;
    } catch (error) {
      this.#complete = false;
      throw error;
    }
  }

  /** A session has begun that the store does not know: it is announced, with all others. */
  markIncomplete(): void {
    this.#complete = false;
  }

  end(held: contract.HeldSession, ending: contract.SessionEnding): void {
    this.#observe(this.#end(held, ending));
  }

  /** The command is under way when this returns: a later read by this node finds the session in the channel. */
  enter(membership: Omit<contract.Membership, "holder">): void {
    this.#observe(this.#enter(membership));
  }

  /** In {@link lingerMs}, unless a newer claim of the session has entered by then. */
  leaveSoon(membership: Omit<contract.Membership, "holder">): void {
    this.#lingering.push({ membership, until: performance.now() + lingerMs });
  }

  leave(membership: Omit<contract.Membership, "holder">): void {
    this.#observe(this.#options.store.leave({ ...membership, holder: this.#lease.holder }));
  }

  async #end(held: contract.HeldSession, ending: contract.SessionEnding): Promise<void> {
    await this.#options.store.end(held, this.#lease.holder, ending);
    this.#options.events.expect(identityKey(held), ending.mayReturn ? graceMs : 0);
  }

  async #enter(membership: Omit<contract.Membership, "holder">): Promise<void> {
    await this.#options.store.enter({ ...membership, holder: this.#lease.holder });
  }

  /** After a failed write everything is announced. */
  #observe(write: Promise<void>): void {
    write.catch((error: unknown) => {
      this.#complete = false;
      this.#options.logger.debug({ err: error }, "write to the session store failed");
    });
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#beat().finally(() => this.#schedule()), jittered(beatMs));
    this.#timer.unref();
  }

  /** One at a time. */
  async #beat(): Promise<void> {
    this.#beating ??= this.#renew()
      .catch((error: unknown) => {
        this.#lease.interrupted();
        if (!(error instanceof TidegateError))
          this.#options.logger.error({ err: error }, "renewal of the lease failed");
      })
      .finally(() => {
        this.#beating = undefined;
      });
    await this.#beating;
  }

  async #renew(): Promise<void> {
    this.#leaveLingered();
    // This process was paused: others may have been, too.
    if (this.#lease.ageMs > leaseMs) this.#lease.interrupted();
    await this.#lease.renewFormer();
    if (this.#isAllDue || !(await this.#lease.renew())) await this.#announceAll();
    else if (this.#unannounced.length > 0) await this.#announceBatches(this.#unannounced);
    // Otherwise the store may have some of it under the former names only.
    if (this.#complete) await this.#lease.abandonFormer();
    this.#lease.sweepWhereSteady();
  }

  #leaveLingered(): void {
    const now = performance.now();
    const kept = this.#lingering.findIndex(({ until }) => until > now);
    const lingered = this.#lingering.splice(0, kept < 0 ? this.#lingering.length : kept);
    for (const { membership } of lingered) this.leave(membership);
  }

  /** Where a part of the store is away, the next beats announce what that part lacks: all sessions each time would load the others. */
  get #isAllDue(): boolean {
    if (this.#complete) return false;
    return this.#unannounced.length === 0 || performance.now() - this.#announcedAllAt > partlyAwayMs;
  }

  /** Under another name. */
  async #announceAll(): Promise<void> {
    await this.#lease.rename();
    this.#complete = true;
    this.#announcedAllAt = -Infinity;
    try {
      await this.#announceBatches(this.#options.sessions.all);
      this.#announcedAllAt = performance.now();
    } catch (error) {
      this.#complete = false;
      throw error;
    }
  }

  async #announceBatches(sessions: readonly Session[]): Promise<void> {
    const failures: unknown[] = [];
    const unannounced: Session[] = [];
    for (let at = 0; at < sessions.length; at += announceBatch) {
      const batch = sessions.slice(at, at + announceBatch);
      await Promise.all(
        batch.map(async (session) =>
          this.#announce(session).catch((error: unknown) => {
            failures.push(error);
            unannounced.push(session);
          }),
        ),
      );
      // Many sessions, or a slow store, take longer than the lease lasts.
      if (this.#lease.ageMs < beatMs) continue;
      await this.#lease.renewFormer();
      if (!(await this.#lease.renew())) {
        throw new TidegateError("broker_unavailable", "the lease has expired while sessions were announced");
      }
    }
    this.#unannounced = unannounced;
    if (failures.length === 0) return;
    this.#complete = false;
    const bug = failures.find((failure) => !(failure instanceof TidegateError));
    const level = bug === undefined ? "debug" : "error";
    this.#options.logger[level](
      { err: bug ?? failures[0], sessions: failures.length },
      "sessions could not be announced",
    );
  }

  async #announce(session: Session): Promise<void> {
    if (session.disposed || session.moved || session.held.claim === 0) return;
    // Followed first, so that no later message about the session is missed.
    await this.#options.sessions.follow(session);
    if (session.disposed) return;
    const outcome = await this.claim({ mode: "announce", ...session.stored }, session.identity);
    this.#options.metrics.announcements.inc({ outcome: outcome.kind });
    if (session.disposed) return;
    switch (outcome.kind) {
      case "held":
        session.succession.confirm(outcome.checkedAt);
        session.permissions.withdraw(outcome.withdrawn);
        this.#onWithdrawn(session);
        await Promise.all([...session.memberships.values()].map((membership) => this.#enter(membership)));
        return;
      case "replaced":
        return session.succession.giveWay();
      case "revoked":
        return session.end("revoked", "this session was revoked", { reconnect: false });
      case "over":
        // Services were told that it ended, while this node could not be reached: its client begins another one.
        return session.end("draining", "this session ended while its node was cut off", { reconnect: true });
    }
  }
}
