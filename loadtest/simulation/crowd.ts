/** The clients: the state of each, and when it retries. Numbers in typed arrays, no object per client. */
import { type ClientKind, lastingMs, retryDelayMs } from "./client-kinds.ts";
import { ClientLists } from "./client-lists.ts";
import type { SeededRandom } from "./random.ts";
import { tickMs, timerLists, Timers } from "./timers.ts";

/** `leaving` and `moving` clients have a reconnect time: the node closes the former, the latter connect elsewhere first. */
export const states = { waiting: 0, connecting: 1, connected: 2, leaving: 3, moving: 4 } as const;

/** Linux repeats the first SYN after this time, and doubles it for each further one (without tcp_syn_linear_timeouts). */
const synRetryMs = 1_000;

export interface CrowdOptions {
  clients: number;
  kind: ClientKind;
  /** Share of the resuming clients that have no valid resume token: reloaded pages, expired tokens. */
  coldShare: number;
  dialMs: { readonly least: number; readonly most: number };
  /** Beyond those of the timers. */
  maxLists: number;
  random: SeededRandom;
}

export class Crowd {
  readonly size: number;
  readonly kind: ClientKind;
  readonly lists: ClientLists;
  readonly timers: Timers;
  readonly #random: () => number;
  readonly #leastDialMs: number;
  readonly #dialRangeMs: number;
  readonly #state: Uint8Array;
  readonly #failures: Uint8Array;
  readonly #cold: Uint8Array;
  readonly #lastWindowMs: Uint32Array;
  /** Unanswered SYNs of the present dial. */
  readonly #drops: Uint8Array;
  /** The node of its session. While a client moves, its target is another node. */
  readonly #node: Uint16Array;
  readonly #target: Uint16Array;
  /** Tick of the last dial. */
  readonly dialledAt: Int32Array;
  /** Tick at which it joined its present queue. */
  readonly queuedAt: Int32Array;
  /** Tick at which its connection opened, then that of its welcome. */
  readonly since: Int32Array;
  #connected = 0;

  constructor({ clients, kind, coldShare, dialMs, maxLists, random }: CrowdOptions) {
    this.size = clients;
    this.kind = kind;
    this.lists = new ClientLists(clients, timerLists + maxLists);
    this.timers = new Timers(this.lists);
    this.#random = () => random.next();
    this.#leastDialMs = dialMs.least;
    this.#dialRangeMs = dialMs.most - dialMs.least;
    this.#state = new Uint8Array(clients);
    this.#failures = new Uint8Array(clients);
    this.#cold = new Uint8Array(clients);
    this.#lastWindowMs = new Uint32Array(clients);
    this.#drops = new Uint8Array(clients);
    this.#node = new Uint16Array(clients);
    this.#target = new Uint16Array(clients);
    this.dialledAt = new Int32Array(clients);
    this.queuedAt = new Int32Array(clients);
    this.since = new Int32Array(clients);
    for (let client = 0; client < clients; client++) {
      this.#cold[client] = !kind.resumes || random.next() < coldShare ? 1 : 0;
    }
  }

  /** Clients with a session; a moving client still has that of the node it leaves. */
  get connected(): number {
    return this.#connected;
  }

  /** Counts the clients by state. */
  census(): number[] {
    const counts = [0, 0, 0, 0, 0];
    for (const state of this.#state) counts[state] = (counts[state] ?? 0) + 1;
    return counts;
  }

  isCold(client: number): boolean {
    return this.#cold[client] === 1;
  }

  isMoving(client: number): boolean {
    return this.#state[client] === states.moving;
  }

  isLeaving(client: number): boolean {
    return this.#state[client] === states.leaving;
  }

  hasReconnectTime(client: number): boolean {
    return (this.#state[client] ?? 0) >= states.leaving;
  }

  nodeOf(client: number): number {
    return this.#node[client] ?? 0;
  }

  targetOf(client: number): number {
    return this.#target[client] ?? 0;
  }

  /** Its dial reaches a node. */
  arrives(client: number, node: number, now: number): void {
    this.#target[client] = node;
    this.dialledAt[client] = now;
    this.#drops[client] = 0;
    if (!this.isMoving(client)) this.#state[client] = states.connecting;
  }

  /** The node's kernel drops its SYN: the client's kernel repeats it after 1, 2, 4… s until the dial times out. */
  dropped(client: number, now: number): void {
    const drops = this.#drops[client] ?? 0;
    const retryInMs = synRetryMs * 2 ** drops;
    if (2 * retryInMs > this.kind.connectTimeoutMs) {
      this.#drops[client] = 0;
      return this.failed(client, now);
    }
    this.#drops[client] = drops + 1;
    this.timers.set(client, now, retryInMs);
  }

  /** It is welcome at its target. A moving client leaves the other node with this. */
  welcomed(client: number, now: number): void {
    if (!this.isMoving(client)) this.#connected++;
    this.#state[client] = states.connected;
    this.#node[client] = this.targetOf(client);
    this.since[client] = now;
    // From now on it has a resume token.
    if (this.kind.resumes) this.#cold[client] = 0;
    if (!this.kind.isSdk) this.#failures[client] = 0;
  }

  /** Gives it a session that began long before the run and counts as no admission. */
  settle(client: number, node: number): void {
    this.#connected++;
    this.#state[client] = states.connected;
    this.#node[client] = node;
    this.since[client] = -lastingMs / tickMs;
  }

  /**
   * Its session breaks.
   *
   * @param windowMs the reconnect window that the node announced last
   * @param noticedInMs until the client notices
   */
  broken(client: number, now: number, windowMs: number, noticedInMs = 0): void {
    this.#connected--;
    const lastedMs = (now - (this.since[client] ?? 0)) * tickMs;
    if (lastedMs >= lastingMs) this.#failures[client] = 0;
    this.#retry(client, now, windowMs, -1, noticedInMs);
  }

  /** Its session breaks before its reconnect time: its timer, or the queue that it is in, stays. */
  brokenBeforeReconnectTime(client: number): void {
    this.#connected--;
    this.#state[client] = this.isLeaving(client) ? states.waiting : states.connecting;
  }

  /** Its handshake is refused. @param retryAfterMs -1: the refusal names none. */
  refused(client: number, now: number, retryAfterMs: number): void {
    this.#retry(client, now, -1, retryAfterMs, 0);
  }

  /** Its dial fails. @param noticedInMs until the client notices */
  failed(client: number, now: number, noticedInMs = 0): void {
    this.#retry(client, now, -1, -1, noticedInMs);
  }

  /** It keeps its session until then, or until it is welcome elsewhere. */
  giveReconnectTime(client: number, now: number, inMs: number): void {
    const moves = this.kind.isSdk;
    this.#state[client] = moves ? states.moving : states.leaving;
    this.timers.set(client, now, inMs + (moves ? this.#dialMs() : 0));
  }

  /** Its user leaves for good; another one with a token takes its place. */
  replaced(client: number, now: number): void {
    this.#connected--;
    this.#cold[client] = 1;
    this.#failures[client] = 0;
    this.#state[client] = states.waiting;
    this.timers.set(client, now, this.#dialMs());
  }

  #retry(client: number, now: number, windowMs: number, retryAfterMs: number, laterMs: number): void {
    const failures = this.#failures[client] ?? 0;
    this.#failures[client] = Math.min(255, failures + 1);
    if (!this.isMoving(client)) this.#state[client] = states.waiting;
    if (windowMs >= 0) this.#lastWindowMs[client] = windowMs;
    const lastWindowMs = this.#lastWindowMs[client] ?? 0;
    const delayMs = retryDelayMs(this.kind, { failures, windowMs, lastWindowMs, retryAfterMs }, this.#random);
    this.timers.set(client, now, laterMs + delayMs + this.#dialMs());
  }

  #dialMs(): number {
    return this.#leastDialMs + this.#random() * this.#dialRangeMs;
  }
}
