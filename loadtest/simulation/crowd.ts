/** The clients: what each is doing, and when it tries again. Numbers in typed arrays, no object per client. */
import { type ClientKind, lastingMs, retryDelayMs } from "./client-kinds.ts";
import { ClientLists } from "./client-lists.ts";
import type { SeededRandom } from "./random.ts";
import { tickMs, timerLists, Timers } from "./timers.ts";

/** `leaving` and `moving` have a slot: the first are closed in it, the others connect elsewhere first. */
export const doing = { waiting: 0, connecting: 1, connected: 2, leaving: 3, moving: 4 } as const;

/** Linux: tcp_syn_linear_timeouts aside, the first SYN is sent again after this, the next after twice as long. */
const synAgainMs = 1_000;

export interface CrowdOptions {
  clients: number;
  kind: ClientKind;
  /** Of those that could resume, so many have nothing to resume with when they come: reloaded pages, tokens past their time. */
  coldShare: number;
  dialMs: { readonly least: number; readonly most: number };
  /** Besides timers. */
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
  readonly #doing: Uint8Array;
  readonly #failures: Uint8Array;
  readonly #cold: Uint8Array;
  readonly #lastWindowMs: Uint32Array;
  /** SYNs of the present dial that nobody took. */
  readonly #drops: Uint8Array;
  /** Whom it is connected to, or was told to leave; while it is moving, {@link target} is another. */
  readonly #node: Uint16Array;
  readonly #target: Uint16Array;
  /** Ticks. */
  readonly dialledAt: Int32Array;
  /** When it joined the queue it is in. */
  readonly queuedAt: Int32Array;
  /** When its upgrade was answered, then when it was welcomed. */
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
    this.#doing = new Uint8Array(clients);
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

  /** Served by a node: those that are moving are, by the one that they leave. */
  get connected(): number {
    return this.#connected;
  }

  /** What each is doing, counted anew. */
  census(): number[] {
    const counts = [0, 0, 0, 0, 0];
    for (const state of this.#doing) counts[state] = (counts[state] ?? 0) + 1;
    return counts;
  }

  isCold(client: number): boolean {
    return this.#cold[client] === 1;
  }

  isMoving(client: number): boolean {
    return this.#doing[client] === doing.moving;
  }

  isLeaving(client: number): boolean {
    return this.#doing[client] === doing.leaving;
  }

  hasSlot(client: number): boolean {
    return (this.#doing[client] ?? 0) >= doing.leaving;
  }

  nodeOf(client: number): number {
    return this.#node[client] ?? 0;
  }

  targetOf(client: number): number {
    return this.#target[client] ?? 0;
  }

  /** It reaches a node now. */
  arrives(client: number, node: number, now: number): void {
    this.#target[client] = node;
    this.dialledAt[client] = now;
    this.#drops[client] = 0;
    if (!this.isMoving(client)) this.#doing[client] = doing.connecting;
  }

  /** The node's kernel has no room for its SYN: its own sends it again after 1, 2, 4… s, until the dial has taken too long. */
  dropped(client: number, now: number): void {
    const drops = this.#drops[client] ?? 0;
    const againInMs = synAgainMs * 2 ** drops;
    if (2 * againInMs > this.kind.connectTimeoutMs) {
      this.#drops[client] = 0;
      return this.failed(client, now);
    }
    this.#drops[client] = drops + 1;
    this.timers.set(client, now, againInMs);
  }

  /** It is welcome where it dialled. A client that moved has left the other node with this. */
  welcomed(client: number, now: number): void {
    if (!this.isMoving(client)) this.#connected++;
    this.#doing[client] = doing.connected;
    this.#node[client] = this.targetOf(client);
    this.since[client] = now;
    // From now on it has something to resume with.
    if (this.kind.resumes) this.#cold[client] = 0;
    if (!this.kind.isSdk) this.#failures[client] = 0;
  }

  /** Connected since long ago, and not counted as an admission. */
  settle(client: number, node: number): void {
    this.#connected++;
    this.#doing[client] = doing.connected;
    this.#node[client] = node;
    this.since[client] = -lastingMs / tickMs;
  }

  /**
   * Its session broke. @param windowMs the node's last word on how to spread the return.
   * @param noticedInMs how long the client does not know.
   */
  broken(client: number, now: number, windowMs: number, noticedInMs = 0): void {
    this.#connected--;
    const lastedMs = (now - (this.since[client] ?? 0)) * tickMs;
    if (lastedMs >= lastingMs) this.#failures[client] = 0;
    this.#again(client, now, windowMs, -1, noticedInMs);
  }

  /** Of a client that has a slot: its timer, or the queue it is in, goes on. */
  brokenInSlot(client: number): void {
    this.#connected--;
    this.#doing[client] = this.isLeaving(client) ? doing.waiting : doing.connecting;
  }

  /** It got an answer in band. @param retryAfterMs -1: none. */
  refused(client: number, now: number, retryAfterMs: number): void {
    this.#again(client, now, -1, retryAfterMs, 0);
  }

  /** Its dial failed. @param noticedInMs how long the client does not know. */
  failed(client: number, now: number, noticedInMs = 0): void {
    this.#again(client, now, -1, -1, noticedInMs);
  }

  /** It is served until then, or until it is welcome elsewhere. */
  givenSlot(client: number, now: number, inMs: number): void {
    const moves = this.kind.isSdk;
    this.#doing[client] = moves ? doing.moving : doing.leaving;
    this.timers.set(client, now, inMs + (moves ? this.#dialMs() : 0));
  }

  /** Gone for good, and somebody else comes in its place, by a token of its own. */
  replaced(client: number, now: number): void {
    this.#connected--;
    this.#cold[client] = 1;
    this.#failures[client] = 0;
    this.#doing[client] = doing.waiting;
    this.timers.set(client, now, this.#dialMs());
  }

  #again(client: number, now: number, windowMs: number, retryAfterMs: number, laterMs: number): void {
    const failures = this.#failures[client] ?? 0;
    this.#failures[client] = Math.min(255, failures + 1);
    if (!this.isMoving(client)) this.#doing[client] = doing.waiting;
    if (windowMs >= 0) this.#lastWindowMs[client] = windowMs;
    const lastWindowMs = this.#lastWindowMs[client] ?? 0;
    const delayMs = retryDelayMs(this.kind, { failures, windowMs, lastWindowMs, retryAfterMs }, this.#random);
    this.timers.set(client, now, laterMs + delayMs + this.#dialMs());
  }

  #dialMs(): number {
    return this.#leastDialMs + this.#random() * this.#dialRangeMs;
  }
}
