/** From a request for a connection to a session: the gate, then seat → admit → check → begin. */
import { type ConnectCode, isConnectCode } from "../../shared/protocol/codes.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { canMatchChannel } from "../../shared/protocol/grammar.ts";
import { connectDeadlineMs } from "../../shared/protocol/limits.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";
import { withDeadline } from "../../shared/runtime/timing.ts";
import type { GatewayContext } from "../node/context.ts";
import { knowsRules } from "../node/known-rules.ts";
import type { Connection } from "../outbox/connection.ts";
import { undecidedRetryMs } from "../sessions/authentication.ts";
import type { Session } from "../sessions/session.ts";
import { renewHookGrants } from "../subscriptions/connect-hook.ts";
import { AddressPace } from "./address-pace.ts";
import { Admission, type Decision, maxQueueMs } from "./admission.ts";
import { beginSession, createSession } from "./begin-session.ts";
import { CurrentReconnectPolicy } from "./current-reconnect-policy.ts";
import { endSession } from "./end-session.ts";
import { type Accepted, checkHandshake, checkSessionsOfUser, type Handshake } from "./handshake.ts";
import { readHandshake, type Refused, refused, tooLate } from "./handshake.ts";
import { type Seat, type SeatBounds, Seats } from "./seats.ts";
import { type Arrival, UpgradeGate } from "./upgrade-gate.ts";

/** Socket.IO closes a connection at the connect deadline; a refusal has to be on its way before. */
const refusalMarginMs = 250;
/** Seats become free as clients leave. */
const capacityRetryMs = 5_000;
const limitRetryMs = 5_000;
const drainRetryMs = 1_000;
const oneLineAMinute = { capacity: 1, perSecond: 1 / 60 };
const stopping = "this node is stopping";

export interface EntranceLimits extends SeatBounds {
  /** In the fleet; 0: no bound. */
  sessionsPerUser: number;
}

export type Entered = { kind: "begun"; session: Session } | Refused;

export class Entrance {
  readonly gate: UpgradeGate;
  readonly seats: Seats;
  readonly admission: Admission;
  /** How clients that lose this node spread their reconnects. */
  readonly reconnectPolicy: CurrentReconnectPolicy;
  readonly #context: GatewayContext;
  readonly #sessionsPerUser: number;
  readonly #pace = new AddressPace();
  readonly #mistakes: PacedLog;
  /** Connections that have sent a handshake: each may send one. */
  readonly #entered = new WeakSet<Connection>();
  #isClosed = false;

  constructor(context: GatewayContext, limits: EntranceLimits) {
    const { fleet, metrics, errors, sessions, logger } = context;
    this.#context = context;
    this.#mistakes = new PacedLog({ logger, rate: oneLineAMinute });
    this.#sessionsPerUser = limits.sessionsPerUser;
    this.gate = new UpgradeGate({
      hasRoom: () => this.seats.makeRoom(),
      onRefused: () => metrics.upgradesRefused.inc(),
    });
    this.seats = new Seats(limits, (oldest) => {
      metrics.doorClosed.inc({ door: "public", reason: "crowded" });
      errors.contain("http", () => oldest.terminate());
    });
    this.admission = new Admission({ share: fleet, admitted: metrics.admitted, waitSeconds: metrics.admissionWait });
    this.reconnectPolicy = new CurrentReconnectPolicy({
      sessions: () => sessions.all,
      admissionsPerSecond: () => fleet.budgetPerSecond,
      errors,
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  start(): void {
    this.gate.setRate(this.admission.reconnectsPerSecond);
    this.#context.fleet.onReport(() => {
      this.admission.onShare();
      this.gate.setRate(this.admission.reconnectsPerSecond);
      this.reconnectPolicy.update();
    });
  }

  /** Refuses every handshake from now on, those in the queue included. */
  close(): void {
    this.#isClosed = true;
    this.admission.close();
    this.reconnectPolicy.stop();
  }

  /** Takes {@link close} back. */
  open(): void {
    this.#isClosed = false;
    this.admission.open();
    this.reconnectPolicy.resume();
  }

  /** Asks every session to reconnect elsewhere. Resolves once no seat is taken. */
  async evictAll(): Promise<void> {
    for (const session of this.#context.sessions.all) {
      session.end("draining", stopping, { reconnect: true, retryAfterMs: drainRetryMs });
    }
    await this.seats.empty();
  }

  /** A client requests a connection: opens it now or soon, or refuses it. */
  arrive(arrival: Arrival): void {
    const now = performance.now();
    if (this.seats.addresses.isCrowded(arrival, now)) this.gate.arrive(arrival, true);
    else this.#pace.arrive(arrival.address, now, () => void (arrival.gone || this.gate.arrive(arrival, false)));
  }

  /** The engine has opened a connection. */
  opened(connection: Connection): void {
    this.seats.addUnseated(connection);
    connection.onClosed(this.#context.errors.guarded("frame", () => this.seats.remove(connection)));
  }

  /** The client has sent its handshake. Never rejects. A session that begins ends with its connection. */
  async enter(connection: Connection, auth: unknown, userAgent: string): Promise<Entered> {
    const { logger, metrics } = this.#context;
    const entered = await this.#enter(connection, auth, userAgent).catch((error: unknown) => {
      logger.error({ err: error }, "check of a handshake failed");
      return refused("auth_unavailable", "the connection could not be checked", undecidedRetryMs);
    });
    metrics.connects.inc({ outcome: entered.kind === "refused" ? connectOutcome(entered.refusal.code) : "accepted" });
    return entered;
  }

  async #enter(connection: Connection, auth: unknown, userAgent: string): Promise<Entered> {
    if (this.#entered.has(connection)) return refused("unauthenticated", "a connection authenticates once");
    this.#entered.add(connection);
    if (this.#isClosed) return this.#refuseWithTime("draining", stopping, connection, drainRetryMs);
    const handshake = readHandshake(auth, userAgent, this.#context);
    if (handshake.kind === "refused") return handshake;
    const noRoom = this.#checkRoom(handshake, connection);
    if (noRoom) return noRoom;
    // Socket.IO calls this a turn late: the connection may have closed since, and would not say so again.
    if (!connection.isOpen) return tooLate();
    const seat = this.seats.take(connection, connection.requestedAt + connectDeadlineMs - refusalMarginMs);
    connection.onClosed((timedOut) => this.#leave(seat, timedOut));
    const entered = await withDeadline(
      this.#enterWithSeat(seat, handshake),
      seat.deadline - performance.now(),
      tooLate,
    );
    if (entered.kind === "refused") this.#leave(seat);
    else this.#pace.began(connection.address, performance.now());
    return entered;
  }

  async #enterWithSeat(seat: Seat, first: Handshake): Promise<Entered> {
    const notAdmitted = await this.#admit(seat, first);
    if (notAdmitted) return notAdmitted;
    for (let handshake = first; ; handshake = { ...handshake, resumable: undefined }) {
      const checked = await this.#check(seat, handshake);
      if (checked.kind === "refused") return checked;
      const begun = await this.#begin(seat, checked);
      // Revoked: the client may still begin a new session with its token.
      if (begun.kind !== "revoked") return begun;
    }
  }

  /** @returns why this node has no room for the handshake. Such a handshake does not queue. */
  #checkRoom({ resumable }: Handshake, connection: Connection): Refused | undefined {
    const waitMs = this.seats.addresses.checkMs(connection.address, performance.now());
    if (waitMs !== undefined) {
      return refused("rate_limited", "too many connections from this address", waitMs === 0 ? limitRetryMs : waitMs);
    }
    if (this.seats.isFull) {
      return this.#refuseWithTime("at_capacity", "this node has no free seat", connection, capacityRetryMs);
    }
    const { broker } = this.#context;
    // The rules may name a connect hook.
    if (!resumable && !knowsRules(this.#context)) {
      const message = "this node knows no rules yet";
      return this.#refuseWithTime("auth_unavailable", message, connection, undecidedRetryMs);
    }
    const { state } = broker;
    if (!resumable && (state === "away" || state === "refusing")) {
      const message = "no new session can begin at the moment";
      return this.#refuseWithTime("broker_unavailable", message, connection, undecidedRetryMs);
    }
    return undefined;
  }

  /** Does not resolve where the seat is released first. */
  async #admit(seat: Seat, { resumable }: Handshake): Promise<Refused | undefined> {
    const { address, requestedAt } = seat.connection;
    const { promise, resolve } = Promise.withResolvers<Decision>();
    const request = { kind: resumable ? "resume" : "cold", address, deadline: requestedAt + maxQueueMs } as const;
    seat.leaveQueue = this.admission.enter(request, resolve);
    const decision = await promise;
    seat.leaveQueue = undefined;
    switch (decision.kind) {
      case "admitted":
        return undefined;
      case "closed":
        return this.#refuseWithTime("draining", stopping, seat.connection, drainRetryMs);
      case "refused":
        return refused("rate_limited", "too many clients connect at the moment", decision.retryAfterMs);
    }
  }

  async #check({ connection, deadline }: Seat, handshake: Handshake): Promise<Accepted | Refused> {
    const checked = await checkHandshake(handshake, connection.address, deadline, this.#context);
    if (checked.kind === "refused" || checked.resumed) return checked;
    this.#warnOfPatterns(checked);
    if (this.#sessionsPerUser === 0) return checked;
    const user = identityKey(checked.credentials);
    return (await checkSessionsOfUser(user, this.#sessionsPerUser, this.#context)) ?? checked;
  }

  #warnOfPatterns({ credentials, grantedChannels }: Accepted): void {
    for (const [origin, patterns] of [
      ["the token", credentials.channels],
      ["the connect hook", grantedChannels],
    ] as const) {
      const pattern = patterns.find((each) => !canMatchChannel(each));
      if (pattern === undefined) continue;
      const advice = "a channel is namespace:rest, the namespace in lower case";
      this.#mistakes.warn(
        origin,
        { pattern: excerpt(pattern), advice },
        `a channel pattern of ${origin} can never match`,
      );
    }
  }

  async #begin(seat: Seat, accepted: Accepted): Promise<Entered | { kind: "revoked" }> {
    const { connection, deadline } = seat;
    if (seat.isReleased || performance.now() > deadline) return tooLate();
    const session = createSession(connection, accepted, this.#context);
    seat.session = session;
    const begun = await beginSession(session, { last: accepted.resumed, deadline }, this.#context);
    if (begun.kind === "revoked") endSession(session, false, this.#context);
    if (begun.kind !== "begun") return begun;
    const withinMs = Math.max(1, Math.floor(deadline - performance.now()));
    await renewHookGrants(session, { grantedAt: accepted.grantedAt, withinMs }, this.#context);
    if (this.#isClosed) return this.#refuseWithTime("draining", stopping, connection, drainRetryMs);
    // The connection may have closed, or been refused at the deadline, in the meantime.
    return connection.isOpen && performance.now() <= deadline ? { kind: "begun", session } : tooLate();
  }

  /** Also ends a session that began after its seat was released. */
  #leave(seat: Seat, timedOut = false): void {
    const { session } = seat;
    if (session) this.#context.errors.contain("frame", () => endSession(session, timedOut, this.#context));
    seat.release();
  }

  /** With a reconnect time of its own for each client. */
  #refuseWithTime(code: ConnectCode, message: string, { address }: Connection, notBeforeMs: number): Refused {
    return refused(code, message, this.admission.takeReconnectMs(address, notBeforeMs));
  }
}

/** Connect hooks refuse with any number of codes of their own. As a metric label those are all `forbidden`. */
function connectOutcome(code: string): ConnectCode {
  return isConnectCode(code) ? code : "forbidden";
}
