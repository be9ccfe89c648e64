/**
 * A simulated gateway: its sessions, and its event loop as a budget of CPU time for each tick.
 *
 * Deliveries and pings of its sessions come first, handshakes get the rest. Queued work is the delay of everything. Where the
 * delay exceeds the ping timeout, sessions fall.
 */
import { defaultLiveness } from "../../gateway/engine/liveness.ts";
import { none } from "./client-lists.ts";
import type { AdmissionShare } from "./node-admission.ts";
import { type HandshakeContext, handshakeLists, type HandshakeNode, NodeHandshakes } from "./node-handshakes.ts";
import { tickMs } from "./timers.ts";

export const listsPerNode = 1 + handshakeLists;

export interface NodeContext extends HandshakeContext {
  /** A moving client is welcome at another node, and leaves this one. */
  left(node: number): void;
  outOfMemory(node: GatewayNode): void;
}

export class GatewayNode implements HandshakeNode {
  readonly number: number;
  /** `silent`: the machine is gone, and nothing closes its connections. */
  state: "up" | "draining" | "down" | "silent" = "up";
  /** The reconnect window of its last welcome or policy. */
  windowMs = 0;
  startedAt = 0;
  readonly #context: NodeContext;
  readonly #sessionList: number;
  readonly #handshakes: NodeHandshakes;
  /** Sessions with a reconnect time included. */
  #sessions = 0;
  /** Queued work of its sessions. */
  #sessionMicros = 0;
  /** Work of the last tick beyond its time. */
  #overdrawnMicros = 0;
  #falling = 0;

  constructor(number: number, context: NodeContext) {
    this.number = number;
    this.#context = context;
    this.#sessionList = context.crowd.lists.create();
    this.#handshakes = new NodeHandshakes(context, this);
  }

  get sessions(): number {
    return this.#sessions;
  }

  get isDraining(): boolean {
    return this.state === "draining";
  }

  get seats(): number {
    return this.#sessions + this.#handshakes.underWay;
  }

  /** Open connections, answered or not: what a balancer counts. */
  get connections(): number {
    return this.seats + this.#handshakes.withoutSeat;
  }

  /** Clients in the line of admission. */
  get waiting(): number {
    return this.#handshakes.waiting;
  }

  get freeSeats(): number {
    const { cap, connectionsInMemory } = this.#context.settings.fleet;
    return Math.max(0, (cap ?? connectionsInMemory) - this.seats);
  }

  /** How long new work waits for its turn. */
  get delayMs(): number {
    const { coresPerNode } = this.#context.settings.fleet;
    return (this.#handshakes.queuedMicros + this.#sessionMicros) / coresPerNode / 1_000;
  }

  get #isGone(): boolean {
    return this.state === "down" || this.state === "silent";
  }

  /** Adds a session that began before the run. */
  settle(client: number): void {
    this.#sessions++;
    this.#context.crowd.settle(client, this.number);
    this.#context.crowd.lists.push(this.#sessionList, client);
  }

  /** A dial reaches the node. */
  offer(client: number, now: number): void {
    const { crowd, counters, settings } = this.#context;
    if (this.#isGone) {
      crowd.arrives(client, this.number, now);
      counters.failed++;
      return crowd.failed(client, now, this.state === "silent" ? crowd.kind.connectTimeoutMs : 0);
    }
    if (!this.#handshakes.arrive(client, this.number, now)) return crowd.dropped(client, now);
    if (this.#handshakes.connectionCount > settings.fleet.connectionsInMemory) this.#context.outOfMemory(this);
  }

  /** The answer of the connect hook. */
  answered(client: number, allowed: boolean, now: number): void {
    const { crowd, counters } = this.#context;
    if (this.#isGone || (crowd.since[client] ?? 0) < this.startedAt) {
      counters.failed++;
      return crowd.failed(client, now);
    }
    this.#handshakes.answered(client, allowed, now);
  }

  tick(now: number): void {
    if (this.#isGone) return;
    const { costs, fleet, deliveriesPerSecond } = this.#context.settings;
    const perSession = costs.idleMicrosPerSecond + deliveriesPerSecond * costs.deliveryMicros;
    this.#sessionMicros += (this.#sessions * perSession * tickMs) / 1_000;
    this.#handshakes.giveUpLate(now);
    const micros = fleet.coresPerNode * tickMs * 1_000 - this.#overdrawnMicros;
    const forSessions = Math.min(Math.max(0, micros), this.#sessionMicros);
    this.#sessionMicros -= forSessions;
    const left = this.#handshakes.tick(now, micros - forSessions);
    this.#overdrawnMicros = Math.max(0, -left);
    if (this.delayMs > defaultLiveness.pingTimeoutMs) this.#dropSessions(now);
  }

  /** A client is welcome. */
  begin(client: number, now: number): void {
    const { crowd } = this.#context;
    if (crowd.isMoving(client)) this.#context.left(crowd.nodeOf(client));
    crowd.welcomed(client, now);
    crowd.lists.push(this.#sessionList, client);
    this.#sessions++;
  }

  /** The process ends. @param noticedMs draws how long a client takes to notice. @returns the number of ended sessions. */
  end(now: number, state: "down" | "silent", noticedMs: () => number): number {
    const { crowd, counters } = this.#context;
    this.state = state;
    let ended = 0;
    if (this.#sessions > crowd.lists.size(this.#sessionList)) {
      for (let client = 0; client < crowd.size; client++) {
        if (!crowd.hasReconnectTime(client) || crowd.nodeOf(client) !== this.number) continue;
        crowd.brokenBeforeReconnectTime(client);
        ended++;
      }
    }
    for (let client = crowd.lists.shift(this.#sessionList); client !== none; ended++) {
      crowd.broken(client, now, this.windowMs, noticedMs());
      client = crowd.lists.shift(this.#sessionList);
    }
    this.#handshakes.end((client) => {
      counters.failed++;
      crowd.failed(client, now, noticedMs());
    });
    this.#sessions = this.#sessionMicros = this.#overdrawnMicros = this.#falling = 0;
    return ended;
  }

  /** Every connection breaks; the process stays. */
  cut(now: number): void {
    const { crowd, counters } = this.#context;
    for (let client = crowd.lists.shift(this.#sessionList); client !== none;) {
      this.#sessions--;
      counters.ended++;
      crowd.broken(client, now, this.windowMs);
      client = crowd.lists.shift(this.#sessionList);
    }
  }

  start(now: number): void {
    this.state = "up";
    this.startedAt = now;
    this.#handshakes.restart(now);
  }

  /** Gives each session a reconnect time, spread evenly over the window; 0: all at once. */
  drain(now: number, windowMs: number): void {
    const { crowd } = this.#context;
    const count = crowd.lists.size(this.#sessionList);
    for (let i = 0; i < count; i++) {
      const client = crowd.lists.shift(this.#sessionList);
      crowd.giveReconnectTime(client, now, (windowMs * i) / count);
    }
  }

  /** The reconnect time of a client that cannot move by itself: the node closes it. */
  closeAtReconnectTime(client: number, now: number): void {
    this.#sessions--;
    this.#context.counters.ended++;
    this.#context.crowd.broken(client, now, this.windowMs);
  }

  /** One of its sessions moved to another node. */
  left(): void {
    this.#sessions--;
    this.#context.counters.moved++;
  }

  /** A user leaves for good, and another one connects. */
  replaceOldest(now: number): void {
    const { crowd } = this.#context;
    const client = crowd.lists.shift(this.#sessionList);
    if (client === none) return;
    this.#sessions--;
    crowd.replaced(client, now);
  }

  setShare(share: AdmissionShare, now: number): void {
    this.#handshakes.setShare(share, now);
  }

  /** Pings come too late: sessions end at the rate of their pings. */
  #dropSessions(now: number): void {
    const { crowd, counters } = this.#context;
    this.#falling += (this.#sessions * tickMs) / defaultLiveness.pingIntervalMs;
    for (; this.#falling >= 1; this.#falling--) {
      const client = crowd.lists.shift(this.#sessionList);
      if (client === none) break;
      this.#sessions--;
      counters.fallen++;
      crowd.broken(client, now, this.windowMs);
    }
  }
}
