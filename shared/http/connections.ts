/** The connections of a door: their bounds, and which one to evict when there are too many. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { FairPool } from "../runtime/fair-pool.ts";
import { networkOf } from "./network.ts";
import { beginsMoreThan, stopReading } from "./door-input.ts";
import { RefusalDelay } from "./refusal-delay.ts";

export interface ConnectionBounds {
  /** Open at once, of any kind. */
  total: number;
  /** Of those: unproven ones, which have sent no request that the door vouches for. */
  unproven: number;
}

/** Unanswered requests of one connection. Known clients send the next request after the answer. */
const maxPipelined = 16;

/** Connections that are delayed before they are closed; further ones are closed at once. */
const maxDelayed = 1_000;

/** An answer under way. `plain`: past Node's server; a connection has one at most, and no other beside it. */
type Pending = ServerResponse | "plain";

interface Requesting {
  readonly network: string;
  readonly pending: Set<Pending>;
}

/** Why the door closed a connection. */
export type Closure =
  /** Too many unproven connections; this one is the oldest of the address with the most. */
  | "crowded"
  /** No room, and no unproven connection to evict. */
  | "full"
  | "pipelined"
  /** The request did not arrive in time. */
  | "late"
  /** What arrived is not HTTP. */
  | "malformed";

/**
 * Every connection begins unproven. If there are too many unproven ones, the address with the most loses its oldest one, so that
 * other addresses find room. A connection leaves that pool while the door vouches for its request, and for good once it is
 * upgraded: then other bounds count it.
 */
export class DoorConnections {
  readonly #bounds: ConnectionBounds;
  readonly #onClosed: (closure: Closure) => void;
  readonly #unproven = new FairPool<Socket>();
  readonly #refusalDelay = new RefusalDelay(maxDelayed);
  /** No longer read, and about to be closed. */
  readonly #closing = new WeakSet<Socket>();
  /** Connections that have had a request. */
  readonly #requesting = new Map<Socket, Requesting>();
  /** Under way. */
  #plainAnswers = 0;
  #total = 0;

  constructor(bounds: ConnectionBounds, onClosed: (closure: Closure) => void) {
    this.#bounds = bounds;
    this.#onClosed = onClosed;
  }

  get total(): number {
    return this.#total;
  }

  get unproven(): number {
    return this.#unproven.size;
  }

  arrived(socket: Socket): void {
    this.#total++;
    socket.once("close", () => {
      this.#total--;
      this.#unproven.delete(socket);
      if (this.#requesting.get(socket)?.pending.has("plain")) this.#plainAnswers--;
      this.#requesting.delete(socket);
    });
    this.#unproven.add(socket, networkOf(socket.remoteAddress ?? ""));
    // Evict one early: the next connection must not be refused while there is one to evict.
    if (this.#unproven.size <= this.#bounds.unproven && this.#total < this.#bounds.total) return;
    const oldest = this.#unproven.next;
    if (oldest) this.#evict(oldest);
  }

  /** @returns false where the connection was closed instead. */
  requested(request: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = request;
    if (socket.destroyed || this.#closing.has(socket)) return false;
    const requesting = this.#requestingOf(socket);
    const { pending } = requesting;
    if (pending.size >= maxPipelined) {
      this.#flooded(socket);
      return false;
    }
    pending.add(response);
    response.on("close", () => {
      // The rest of the request has no reader.
      if (!request.complete) this.closeLate(socket);
      this.#answered(socket, requesting, response);
    });
    return true;
  }

  /** Whether a request may be answered past Node's server: nothing is under way on its connection. */
  isFree(socket: Socket): boolean {
    return socket.writable && !this.#closing.has(socket) && this.#requestingOf(socket).pending.size === 0;
  }

  /** A request is to be answered past Node's server. Call {@link answeredPlain} for it. */
  requestedPlain(socket: Socket): void {
    this.#requestingOf(socket).pending.add("plain");
    this.#plainAnswers++;
  }

  answeredPlain(socket: Socket): void {
    const requesting = this.#requesting.get(socket);
    if (requesting) this.#answered(socket, requesting, "plain");
  }

  /** Exempts the connection from eviction until the response ends. */
  vouchFor(socket: Socket): void {
    this.#unproven.delete(socket);
  }

  /** @returns whether to parse the chunk. */
  accepts(socket: Socket, chunk: Buffer): boolean {
    if (!this.#unproven.has(socket) || !beginsMoreThan(maxPipelined, chunk)) return true;
    this.#flooded(socket);
    return false;
  }

  upgraded(socket: Socket): void {
    this.#unproven.delete(socket);
    if (this.#requesting.get(socket)?.pending.size === 0) this.#requesting.delete(socket);
  }

  /** Whether a response has begun, or belongs to a request that has arrived: nothing else may be written ahead of it. */
  owesAnswer(socket: Socket): boolean {
    const pending = [...(this.#requesting.get(socket)?.pending ?? [])];
    return pending.some((answer) => answer === "plain" || answer.headersSent || answer.req.complete);
  }

  /** Whether an answer past Node's server is under way. */
  get owesPlainAnswer(): boolean {
    return this.#plainAnswers > 0;
  }

  /** Reads no more, and closes after a delay: a peer whose connection is closed at once reconnects at once. */
  closeLate(socket: Socket): void {
    if (socket.destroyed || this.#closing.has(socket)) return;
    this.#closing.add(socket);
    stopReading(socket);
    this.#refusalDelay.before(() => socket.destroy());
  }

  #requestingOf(socket: Socket): Requesting {
    let requesting = this.#requesting.get(socket);
    if (!requesting) {
      // Once: to read the network of an IPv6 address takes 2 µs.
      requesting = { network: networkOf(socket.remoteAddress ?? ""), pending: new Set() };
      this.#requesting.set(socket, requesting);
    }
    return requesting;
  }

  #answered(socket: Socket, { network, pending }: Requesting, answer: Pending): void {
    if (pending.delete(answer) && answer === "plain") this.#plainAnswers--;
    if (pending.size === 0 && !socket.destroyed) this.#unproven.add(socket, network);
  }

  #flooded(socket: Socket): void {
    this.#onClosed("pipelined");
    this.closeLate(socket);
  }

  #evict(socket: Socket): void {
    this.#unproven.delete(socket);
    this.#onClosed("crowded");
    socket.destroy();
  }
}
