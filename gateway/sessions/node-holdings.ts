import { randomUUID } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import {
  type ClaimOutcome,
  type ClaimRequest,
  type HeldSession,
  leaseMs,
  lingerMs,
  type Membership,
  type SessionStore,
} from "../../shared/sessions/contract.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { Session } from "./session.ts";
import type { Sessions } from "./sessions.ts";

/** The lease is renewed, and what others left is looked for, about so often. */
const beatMs = 1_000;
/**
 * A node sweeps once it has renewed its own lease for so long without a failure: after an outage every node has had the
 * same time to say that it lives.
 */
const patienceMs = leaseMs + 2_000;
/** Names that are kept while a part of the store cannot be told. */
const maxFormerHolders = 100;
/** Sessions that are announced together, with all their channels. */
const announceBatch = 50;

/**
 * What this node holds in the session store: its sessions and who of them is in which channel, under a lease. Whenever
 * the store may have missed something, or may have kept what is gone, the node takes a new name, tells everything again
 * under that, and gives the old one up.
 */
export class NodeHoldings implements Service {
  readonly #store: SessionStore;
  readonly #node: string;
  readonly #sessions: Pick<Sessions, "all" | "follow">;
  #onWithdrawn: (session: Session) => void = () => undefined;
  readonly #metrics: Pick<GatewayMetrics, "sweptNodes" | "announcements">;
  readonly #logger: Logger;
  #holder: string = randomUUID();
  /** The store knows our name. */
  #registered = false;
  /** What the store has under our name is what we have. */
  #inOrder = false;
  /** Whose connection has ended, in the order of that. */
  #lingering: { membership: Omit<Membership, "holder">; until: number }[] = [];
  /** Our last names, until everything is told under the present one. */
  #formerHolders: string[] = [];
  /** By `performance.now()`: since when each renewal has succeeded, and the last one. */
  #renewedSince: number | undefined;
  #renewedAt = -Infinity;
  #beating: Promise<void> | undefined;
  /** Beside the beats: what a large node left takes longer than a lease lasts. */
  #sweeping = false;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: {
    store: SessionStore;
    node: string;
    sessions: Pick<Sessions, "all" | "follow">;
    metrics: Pick<GatewayMetrics, "sweptNodes" | "announcements">;
    logger: Logger;
  }) {
    this.#store = options.store;
    this.#node = options.node;
    this.#sessions = options.sessions;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
  }

  /** Called for a session whose grants the store reports as withdrawn; one listener. */
  onWithdrawn(listener: (session: Session) => void): void {
    this.#onWithdrawn = listener;
  }

  async start(): Promise<void> {
    await this.#beat();
    this.#schedule();
  }

  /** Sessions have ended before: who of them is not back elsewhere in a moment is swept. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#beating;
    try {
      await this.#store.abandon(this.#holder, { inMs: lingerMs });
    } catch (error) {
      this.#logger.debug({ err: error }, "the lease could not be given up and runs out by itself");
    }
  }

  /** Messages may have been missed, and the store may have lost what it had. */
  onRestored(): void {
    this.#inOrder = false;
    this.#renewedSince = undefined;
    void this.#beat();
  }

  /** @throws TidegateError `broker_unavailable`: what has become of it is not known. */
  async claim(request: Omit<ClaimRequest, "holder" | "node">): Promise<ClaimOutcome> {
    const holder = this.#holder;
    try {
      const outcome = await this.#store.claim({ ...request, holder, node: this.#node });
      if (outcome.kind === "held" && holder !== this.#holder) {
        // Told under a name that is being given up: once more, under the next. What was newer by then is heard of.
        await this.claim({ ...request, mode: "announce", claim: outcome.claim, checkedAt: outcome.checkedAt });
      }
      return outcome;
    } catch (error) {
      this.#inOrder = false;
      throw error;
    }
  }

  /** There is something that the store has not been told. */
  mention(): void {
    this.#inOrder = false;
  }

  end(held: HeldSession): void {
    this.#tell(this.#store.end(held, this.#holder));
  }

  /** The command is under way when this returns: who asks the store later finds the session there. */
  enter(membership: Omit<Membership, "holder">): void {
    this.#tell(this.#enter(membership));
  }

  /** Unless a newer claim of the session has entered by then. */
  leaveSoon(membership: Omit<Membership, "holder">): void {
    // A name that is about to be given up takes its members along.
    if (!this.#inOrder) return;
    this.#lingering.push({ membership, until: performance.now() + lingerMs });
  }

  leave(membership: Omit<Membership, "holder">): void {
    this.#tell(this.#store.leave({ ...membership, holder: this.#holder }));
  }

  async #enter(membership: Omit<Membership, "holder">): Promise<void> {
    await this.#store.enter({ ...membership, holder: this.#holder });
  }

  /** What may not have arrived is put in order with the next beat. */
  #tell(told: Promise<void>): void {
    told.catch((error: unknown) => {
      this.#inOrder = false;
      this.#logger.debug({ err: error }, "the session store could not be told");
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
        this.#renewedSince = undefined;
        if (!(error instanceof TidegateError)) this.#logger.error({ err: error }, "the lease could not be renewed");
      })
      .finally(() => {
        this.#beating = undefined;
      });
    await this.#beating;
  }

  async #renew(): Promise<void> {
    // Paused ourselves: others may have been, too.
    if (performance.now() - this.#renewedAt > leaseMs) this.#renewedSince = undefined;
    await this.#keepFormerHolders();
    if (!this.#inOrder || !(await this.#renewLease(this.#holder, { fresh: false }))) await this.#beginAnew();
    for (const former of this.#formerHolders) await this.#store.abandon(former, { inMs: 0 });
    this.#formerHolders = [];
    const now = performance.now();
    const stays = this.#lingering.findIndex(({ until }) => until > now);
    const over = this.#lingering.splice(0, stays < 0 ? this.#lingering.length : stays);
    for (const { membership } of over) this.leave(membership);
    this.#renewedSince ??= now;
    if (now - this.#renewedSince >= patienceMs) this.#sweep();
  }

  /** Who could not be told again yet is shown by them, however long a part of the store is away. */
  async #keepFormerHolders(): Promise<void> {
    await Promise.all(this.#formerHolders.map((former) => this.#store.renewLease(former, { fresh: false })));
  }

  async #renewLease(holder: string, options: { fresh: boolean }): Promise<boolean> {
    const known = await this.#store.renewLease(holder, options);
    this.#renewedAt = performance.now();
    return known;
  }

  /** One at a time. What it does not finish another node, or a later beat, takes up. */
  #sweep(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    this.#store
      .sweep()
      .then((swept) => {
        if (swept > 0) this.#metrics.sweptNodes.inc(swept);
      })
      .catch((error: unknown) => {
        this.#renewedSince = undefined;
        if (!(error instanceof TidegateError)) this.#logger.error({ err: error }, "what others left was not removed");
      })
      .finally(() => {
        this.#sweeping = false;
      });
  }

  async #beginAnew(): Promise<void> {
    const next = randomUUID();
    await this.#renewLease(next, { fresh: true });
    // Past the bound the last one runs out by itself: a store that refuses to be told has next to nothing under it, and most under the
    // oldest. What is under it is swept too early, which the next beat mends.
    if (this.#registered && this.#formerHolders.length < maxFormerHolders) this.#formerHolders.push(this.#holder);
    this.#registered = true;
    this.#holder = next;
    // Known by the old name only, they go with it.
    this.#lingering = [];
    this.#inOrder = true;
    try {
      await this.#announceAll(next);
    } catch (error) {
      // Some have not been told: the old name must not be given up as if they had.
      this.#inOrder = false;
      throw error;
    }
  }

  async #announceAll(holder: string): Promise<void> {
    const sessions = this.#sessions.all;
    for (let at = 0; at < sessions.length; at += announceBatch) {
      const batch = sessions.slice(at, at + announceBatch);
      await Promise.all(batch.map((session) => this.#announce(session)));
      // Many sessions, or a slow store, take longer than the lease lasts.
      if (performance.now() - this.#renewedAt < beatMs) continue;
      await this.#keepFormerHolders();
      if (!(await this.#renewLease(holder, { fresh: false }))) {
        throw new TidegateError("broker_unavailable", "the lease has run out while sessions were announced");
      }
    }
  }

  async #announce(session: Session): Promise<void> {
    if (session.disposed || session.moved || session.held.claim === 0) return;
    // Followed first: what happens to it from here on is heard of.
    await this.#sessions.follow(session);
    if (session.disposed) return;
    const outcome = await this.claim({ mode: "announce", ...session.stored });
    this.#metrics.announcements.inc({ outcome: outcome.kind });
    if (session.disposed) return;
    switch (outcome.kind) {
      case "held":
        session.succession.confirm(outcome.checkedAt);
        session.withdraw(outcome.withdrawn);
        this.#onWithdrawn(session);
        await Promise.all([...session.memberships.values()].map((membership) => this.#enter(membership)));
        return;
      case "replaced":
        return session.succession.giveWay();
      case "revoked":
      case "over":
        return session.end("revoked", "this session was revoked", { reconnect: false });
    }
  }
}
