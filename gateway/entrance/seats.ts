/** Bounds on open connections: of the node, with a seat or without, and of one address. */
import { networkOf } from "../../shared/http/network.ts";
import { FairPool } from "../../shared/runtime/fair-pool.ts";
import type { Connection } from "../outbox/connection.ts";
import type { Session } from "../sessions/session.ts";
import { type AddressBounds, AddressLimits } from "./address-limits.ts";

/** A connection's place on this node: from its handshake until the connection closes or the handshake is refused. */
export interface Seat {
  readonly connection: Connection;
  /** Of the handshake, by `performance.now()`. */
  readonly deadline: number;
  /** Set once the handshake is accepted. */
  session: Session | undefined;
  /** Set while the handshake waits for admission. */
  leaveQueue: (() => void) | undefined;
  isReleased: boolean;
  /** Idempotent. */
  release(): void;
}

export interface SeatBounds {
  /** Seats: sessions, and handshakes that wait or are checked. */
  maxConnections: number;
  /** Open connections without a seat. */
  maxUnseated: number;
  address: AddressBounds;
}

export class Seats {
  readonly addresses: AddressLimits;
  readonly #bounds: SeatBounds;
  readonly #onCrowded: (oldest: Connection) => void;
  /** Open connections that have not authenticated yet, or were refused. */
  readonly #unseated = new FairPool<Connection>();
  #taken = 0;
  #onEmpty = (): void => undefined;

  /** @param onCrowded terminates the connection. */
  constructor(bounds: SeatBounds, onCrowded: (oldest: Connection) => void) {
    this.#bounds = bounds;
    this.addresses = new AddressLimits(bounds.address);
    this.#onCrowded = onCrowded;
  }

  get taken(): number {
    return this.#taken;
  }

  get isFull(): boolean {
    return this.#taken >= this.#bounds.maxConnections;
  }

  /** Counts a connection that has just opened, until it closes. */
  addUnseated(connection: Connection): void {
    this.addresses.opened(connection.address);
    this.#unseated.add(connection, networkOf(connection.address));
  }

  remove(connection: Connection): void {
    this.#unseated.delete(connection);
    this.addresses.closed(connection.address);
  }

  /**
   * Makes room for one more connection without a seat: past the bound, the address with the most of them loses its oldest,
   * which has had the longest time to authenticate.
   * @returns whether there is room.
   */
  makeRoom(): boolean {
    if (this.#unseated.size < this.#bounds.maxUnseated) return true;
    const oldest = this.#unseated.next;
    if (!oldest) return false;
    this.#unseated.delete(oldest);
    this.#onCrowded(oldest);
    return true;
  }

  take(connection: Connection, deadline: number): Seat {
    const { address } = connection;
    this.#taken++;
    this.#unseated.delete(connection);
    this.addresses.takeSeat(address);
    const release = (): void => {
      seat.leaveQueue?.();
      if (seat.isReleased) return;
      seat.isReleased = true;
      this.#taken--;
      if (connection.isOpen) this.#unseated.add(connection, networkOf(address));
      this.addresses.giveUpSeat(address);
      this.#notifyEmpty();
    };
    const seat: Seat = { connection, deadline, session: undefined, leaveQueue: undefined, isReleased: false, release };
    return seat;
  }

  /** Resolves once every seat is free, and the last refusal has been sent. One caller at a time. */
  async empty(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    this.#notifyEmpty();
    await promise;
  }

  /** A turn of the event loop later: by then, the refusal of the last handshake has been written. */
  #notifyEmpty(): void {
    if (this.#taken === 0) setImmediate(() => this.#taken === 0 && this.#onEmpty());
  }
}
