/** From a handshake to a seat: who may come in, when, and what the others are told. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "socket.io";
import { FairPool } from "../../shared/runtime/fair-pool.ts";
import { networkOf } from "../../shared/http/network.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import { connectDeadlineMs } from "../../shared/protocol/limits.ts";
import { type AddressBounds, AddressLimits } from "../entrance/address-limits.ts";
import { Admission, type Comer, type Decision, maxLineMs } from "../entrance/admission.ts";
import type { GatewayContext } from "../node/context.ts";
import { refuse, undecidedRetryMs } from "../sessions/authentication.ts";
import { type Opened, openHandshake, type Origin } from "../entrance/handshake.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import { cutOffConnection, openedAtOf, takeHandshake } from "./engine.ts";
import type { EngineConnection } from "./engine-internals.ts";

/** The refusal has to be on its way before the engine closes what has not been accepted. */
const refusalMarginMs = 250;
/** A place is free again when somebody leaves. */
const capacityRetryMs = 5_000;
const limitRetryMs = 5_000;
export const drainRetryMs = 1_000;

/** A handshake that has a seat and is let in. */
export interface Entering {
  opened: Opened;
  origin: Origin;
  /** By `performance.now()`. */
  deadline: number;
}

export class Entrance {
  readonly admission: Admission;
  readonly #context: GatewayContext;
  readonly #maxConnections: number;
  readonly #addresses: AddressLimits;
  readonly #trustedProxies: ProxyTrust;
  readonly #maxUnseated: number;
  /** Connections that are open and have no seat: not authenticated yet, or refused. */
  readonly #unseated = new FairPool<EngineConnection>();
  /** Sessions, and handshakes that wait or are checked. */
  #seats = 0;
  /** Connections that have tried to authenticate: each has one try, and one session. */
  readonly #claimed = new WeakSet<object>();
  #closed = false;
  #whenEmpty = (): void => undefined;

  constructor(options: {
    context: GatewayContext;
    maxConnections: number;
    maxUnseated: number;
    address: AddressBounds;
    trustedProxies: ProxyTrust;
  }) {
    this.#context = options.context;
    this.#maxConnections = options.maxConnections;
    this.#maxUnseated = options.maxUnseated;
    this.#addresses = new AddressLimits(options.address);
    this.#trustedProxies = options.trustedProxies;
    const { fleet, metrics } = options.context;
    const { admitted, admissionWait: waitSeconds } = metrics;
    this.admission = new Admission({ share: fleet, admitted, waitSeconds });
  }

  get seats(): number {
    return this.#seats;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Nobody is let in any more. Those in line are told. */
  close(): void {
    this.#closed = true;
    this.admission.close();
  }

  /** Where the client is, behind whatever trusted proxies. */
  addressOf(request: IncomingMessage): string {
    return clientAddress(request, this.#trustedProxies);
  }

  /** Whether its address has too many connections open already. */
  crowds(request: IncomingMessage): boolean {
    return this.#addresses.countsOpen && this.#addresses.crowds(this.addressOf(request));
  }

  /** @returns to be called when it is closed. */
  opened(request: IncomingMessage, connection: EngineConnection): () => void {
    const address = this.addressOf(request);
    if (this.#addresses.countsOpen) this.#addresses.opened(address);
    this.#unseated.add(connection, networkOf(address));
    return () => {
      this.#unseated.delete(connection);
      if (this.#addresses.countsOpen) this.#addresses.closed(address);
    };
  }

  /**
   * For one more connection without a seat. Where there are too many, the address that has most of them loses its oldest
   * one: it has had longest to authenticate.
   */
  makeRoom(): boolean {
    if (this.#unseated.size < this.#maxUnseated) return true;
    const oldest = this.#unseated.next;
    if (!oldest) return false;
    this.#unseated.delete(oldest);
    this.#context.metrics.doorClosed.inc({ door: "public", reason: "crowded" });
    this.#context.errors.contain("http", () => cutOffConnection(oldest));
    return true;
  }

  /** A client that is refused because the node stops comes back at a reconnect time of its own. */
  stopping(address: string): ConnectRefusal {
    return refuse("draining", "this node is stopping", this.admission.returnInMs(address, drainRetryMs));
  }

  /** Resolves once every seat is free, and who was refused has been told. */
  async empty(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#whenEmpty = resolve;
    this.#tellEmpty();
    await promise;
  }

  /**
   * @param checkIn makes a session of it.
   * @param onLeave called when the seat is given up: with the engine's reason, if the connection is gone.
   * @returns why not. Otherwise the seat is held until the connection is gone.
   */
  async letIn(
    socket: Socket,
    checkIn: (entering: Entering) => Promise<ConnectRefusal | undefined>,
    onLeave: (closedBy?: string) => void,
  ): Promise<ConnectRefusal | undefined> {
    if (this.#claimed.has(socket.conn)) return refuse("unauthenticated", "a connection authenticates once");
    this.#claimed.add(socket.conn);
    const address = this.addressOf(socket.request);
    if (this.#closed) return this.stopping(address);
    const { auth, userAgent } = takeHandshake(socket);
    const opened = openHandshake(auth, this.#context);
    if (opened.kind === "refused") return opened.refusal;
    const noRoom = this.#findRoom(opened, address);
    if (noRoom) return noRoom;
    // Socket.IO comes here a turn later: a connection that has closed since tells nobody any more.
    if (socket.conn.readyState !== "open") return tooLate();
    const connection = socket.conn as unknown as EngineConnection;
    this.#seats++;
    this.#unseated.delete(connection);
    this.#addresses.takeSeat(address);
    let seated = true;
    const giveUpSeat = (closedBy?: string): void => {
      onLeave(closedBy);
      if (!seated) return;
      seated = false;
      this.#seats--;
      if (connection.readyState === "open") this.#unseated.add(connection, networkOf(address));
      this.#addresses.giveUpSeat(address);
      this.#tellEmpty();
    };
    socket.conn.once("close", giveUpSeat);
    const openedAt = openedAtOf(socket);
    const deadline = openedAt + connectDeadlineMs - refusalMarginMs;
    const { promise: late, resolve } = Promise.withResolvers<ConnectRefusal>();
    const timer = setTimeout(() => resolve(tooLate()), deadline - performance.now());
    const origin = { address, userAgent };
    const comer = { kind: opened.resumable ? "resume" : "cold", address, until: openedAt + maxLineMs } as const;
    const entered = this.#awaitAdmission(socket, comer, late).then(
      async (refusal) => refusal ?? checkIn({ opened, origin, deadline }),
    );
    const refusal = await Promise.race([entered, late]);
    clearTimeout(timer);
    if (refusal) giveUpSeat();
    return refusal;
  }

  /** A turn later: what a refused one is told has left by then. */
  #tellEmpty(): void {
    if (this.#seats === 0) setImmediate(() => this.#seats === 0 && this.#whenEmpty());
  }

  /** @returns why there is none. Whoever has none does not wait. */
  #findRoom({ resumable }: Opened, address: string): ConnectRefusal | undefined {
    const waitMs = this.#addresses.checkMs(address, performance.now());
    if (waitMs !== undefined) {
      return refuse("rate_limited", "too many connections from this address", waitMs === 0 ? limitRetryMs : waitMs);
    }
    if (this.#seats >= this.#maxConnections) {
      return refuse("at_capacity", "this node has no free place", this.admission.returnInMs(address, capacityRetryMs));
    }
    const { state } = this.#context.broker;
    if (!resumable && (state === "away" || state === "refusing")) {
      const retryAfterMs = this.admission.returnInMs(address, undecidedRetryMs);
      return refuse("broker_unavailable", "nobody new can be let in at the moment", retryAfterMs);
    }
    return undefined;
  }

  /** @param late resolves when there is no point any more. */
  async #awaitAdmission(socket: Socket, comer: Comer, late: Promise<unknown>): Promise<ConnectRefusal | undefined> {
    const { promise, resolve } = Promise.withResolvers<Decision>();
    const leave = this.admission.enter(comer, resolve);
    socket.conn.once("close", leave);
    void late.then(leave);
    const decision = await promise;
    socket.conn.off("close", leave);
    switch (decision.kind) {
      case "admitted":
        return undefined;
      case "closed":
        return this.stopping(comer.address);
      case "refused":
        return refuse("rate_limited", "too many connect at the moment", decision.retryAfterMs);
    }
  }
}

export function tooLate(): ConnectRefusal {
  return refuse("auth_unavailable", "the connection could not be checked in time", undecidedRetryMs);
}
