/**
 * The handshakes of one simulated gateway: dials that wait for the event loop, the gate before the upgrade, the line of
 * admission, and the connect hook. Each step costs CPU time of the node.
 */
import { maxQueueMs } from "../../gateway/entrance/admission.ts";
import { undecidedRetryMs } from "../../gateway/sessions/authentication.ts";
import { connectDeadlineMs } from "../../shared/protocol/limits.ts";
import { none } from "./client-lists.ts";
import type { Counters } from "./counters.ts";
import type { Crowd } from "./crowd.ts";
import { type AdmissionShare, maxGateMs, NodeAdmission } from "./node-admission.ts";
import type { SeededRandom } from "./random.ts";
import type { Settings } from "./settings.ts";
import { tickMs } from "./timers.ts";

export const handshakeLists = 3;
const capacityRetryMs = 5_000;
const drainRetryMs = 1_000;
/** Dials that the kernel queues for a process: Node's default. */
const backlog = 511;

export interface HandshakeContext {
  readonly settings: Settings;
  readonly crowd: Crowd;
  readonly counters: Counters;
  readonly random: SeededRandom;
  /** Calls the connect hook for a client. */
  ask(client: number): void;
  readonly redisAway: boolean;
}

/** The node that the handshakes belong to. */
export interface HandshakeNode {
  readonly isDraining: boolean;
  readonly sessions: number;
  /** A client is welcome: its session begins. */
  begin(client: number, now: number): void;
}

export class NodeHandshakes {
  readonly #context: HandshakeContext;
  readonly #node: HandshakeNode;
  /** Lists of the crowd. */
  readonly #arrivals: number;
  readonly #admitted: number;
  readonly #atGate: number;
  #admission: NodeAdmission | undefined;
  #underWay = 0;
  /** µs of CPU for dials whose client gave up before their turn. */
  #wastedMicros = 0;

  constructor(context: HandshakeContext, node: HandshakeNode) {
    this.#context = context;
    this.#node = node;
    this.#arrivals = context.crowd.lists.create(handshakeLists);
    this.#admitted = this.#arrivals + 1;
    this.#atGate = this.#arrivals + 2;
    this.#admission = this.#newAdmission(0);
  }

  /** Handshakes that have a seat. */
  get underWay(): number {
    return this.#underWay;
  }

  /** Connections without a seat yet: arrived, or waiting at the gate. */
  get withoutSeat(): number {
    const { lists } = this.#context.crowd;
    return lists.size(this.#arrivals) + lists.size(this.#atGate);
  }

  /** Clients in the line of admission. */
  get waiting(): number {
    return this.#admission?.waiting ?? 0;
  }

  /** CPU time that the queued handshakes still need. */
  get queuedMicros(): number {
    const { lists } = this.#context.crowd;
    const { costs, fleet } = this.#context.settings;
    return (
      lists.size(this.#arrivals) * (fleet.admission ? costs.turnedAwayMicros : costs.refusalMicros) +
      lists.size(this.#admitted) * (costs.coldMicros - costs.refusalMicros) +
      this.#wastedMicros
    );
  }

  get #seats(): number {
    return this.#node.sessions + this.#underWay;
  }

  /** A dial arrives. @returns false where the kernel's queue is full. */
  arrive(client: number, number: number, now: number): boolean {
    const { crowd } = this.#context;
    if (crowd.lists.size(this.#arrivals) >= backlog) return false;
    crowd.arrives(client, number, now);
    crowd.queuedAt[client] = now;
    crowd.lists.push(this.#arrivals, client);
    return true;
  }

  /** Connections that take memory: sessions, handshakes, and dials that arrived. */
  get connectionCount(): number {
    return this.#seats + this.#context.crowd.lists.size(this.#arrivals);
  }

  /** The answer of the connect hook. */
  answered(client: number, allowed: boolean, now: number): void {
    if (allowed) return this.#queueAdmitted(client, now);
    this.#underWay--;
    this.#refuse(client, now, undecidedRetryMs);
  }

  /** Spends CPU time on the queues. @returns what is left; below 0: the last step took longer than that. */
  tick(now: number, micros: number): number {
    const { crowd } = this.#context;
    const wasted = Math.min(Math.max(0, micros), this.#wastedMicros);
    this.#wastedMicros -= wasted;
    let left = micros - wasted;
    this.#serveLine(now);
    left -= this.#openGate(now, left);
    while (left > 0) {
      const arrival = crowd.lists.first(this.#arrivals);
      const admitted = crowd.lists.first(this.#admitted);
      if (arrival === none && admitted === none) break;
      const isArrivalFirst =
        admitted === none || (arrival !== none && (crowd.queuedAt[arrival] ?? 0) <= (crowd.queuedAt[admitted] ?? 0));
      if (isArrivalFirst) {
        crowd.lists.shift(this.#arrivals);
        left -= this.#upgrade(arrival, now);
      } else {
        crowd.lists.shift(this.#admitted);
        left -= this.#welcome(admitted, now);
      }
    }
    return left;
  }

  /** Drops dials whose client gave up; the node works them off all the same. */
  giveUpLate(now: number): void {
    const { crowd, counters, settings } = this.#context;
    const oldest = now - crowd.kind.connectTimeoutMs / tickMs;
    for (let first = crowd.lists.first(this.#arrivals); first !== none; first = crowd.lists.first(this.#arrivals)) {
      if ((crowd.dialledAt[first] ?? 0) > oldest) break;
      crowd.lists.shift(this.#arrivals);
      this.#wastedMicros += settings.costs.refusalMicros;
      counters.failed++;
      crowd.failed(first, now);
    }
  }

  /** The process ends. @param fail called with each client in a queue. */
  end(fail: (client: number) => void): void {
    const { lists } = this.#context.crowd;
    for (const list of [this.#arrivals, this.#admitted, this.#atGate]) {
      for (let client = lists.shift(list); client !== none; client = lists.shift(list)) fail(client);
    }
    for (let client = this.#admission?.dismiss(); client !== undefined; client = this.#admission?.dismiss()) {
      fail(client);
    }
    this.#underWay = this.#wastedMicros = 0;
  }

  restart(now: number): void {
    this.#admission = this.#newAdmission(now);
  }

  setShare(share: AdmissionShare, now: number): void {
    this.#admission?.setShare(share, now * tickMs);
  }

  #newAdmission(now: number): NodeAdmission | undefined {
    const { settings, random } = this.#context;
    const { admission, nodes } = settings.fleet;
    if (!admission) return undefined;
    const { budgetPerSecond } = admission;
    return new NodeAdmission({ budgetPerSecond, nodes, nowMs: now * tickMs, random: () => random.next() });
  }

  /** A request for an upgrade. @returns its cost in µs. */
  #upgrade(client: number, now: number): number {
    const { crowd, settings } = this.#context;
    const { turnedAwayMicros } = settings.costs;
    const admission = this.#admission;
    if (!admission) return this.#open(client, now);
    const atGate = crowd.lists.size(this.#atGate);
    if (atGate === 0 && admission.opens(now * tickMs)) return turnedAwayMicros + this.#open(client, now);
    if (atGate >= admission.roomAtGate) this.#turnAway(client, now);
    else {
      crowd.queuedAt[client] = now;
      crowd.lists.push(this.#atGate, client);
    }
    return turnedAwayMicros;
  }

  /** @returns the cost in µs, at most one step above `micros`. */
  #openGate(now: number, micros: number): number {
    const { crowd } = this.#context;
    let spent = 0;
    for (let client = crowd.lists.first(this.#atGate); client !== none; client = crowd.lists.first(this.#atGate)) {
      const isLate = (now - (crowd.queuedAt[client] ?? 0)) * tickMs >= maxGateMs;
      if (!isLate && (spent >= micros || !this.#admission?.opens(now * tickMs))) break;
      crowd.lists.shift(this.#atGate);
      if (isLate) this.#turnAway(client, now);
      else spent += this.#open(client, now);
    }
    return spent;
  }

  /** 503: the client sees a failed dial. */
  #turnAway(client: number, now: number): void {
    this.#context.counters.turnedAway++;
    this.#context.crowd.failed(client, now);
  }

  /** A connection opens: a seat, then a place in line, or a refusal. @returns the cost in µs. */
  #open(client: number, now: number): number {
    const { crowd, settings, redisAway } = this.#context;
    const { cap } = settings.fleet;
    const admission = this.#admission;
    crowd.since[client] = now;
    if (this.#node.isDraining) this.#refuse(client, now, drainRetryMs);
    else if (cap !== undefined && this.#seats >= cap)
      this.#refuse(client, now, this.#reconnectMs(now, capacityRetryMs));
    else if (redisAway && !this.#isResume(client)) this.#refuse(client, now, this.#reconnectMs(now, undecidedRetryMs));
    else if (!admission) this.#check(client, now);
    else {
      switch (admission.enter(client, this.#isResume(client) ? "resume" : "cold", now * tickMs)) {
        case "admitted":
          this.#check(client, now);
          break;
        case "waits":
          this.#underWay++;
          break;
        case "refused":
          this.#refuse(client, now, this.#reconnectMs(now, 0));
      }
    }
    return settings.costs.refusalMicros - (admission ? settings.costs.turnedAwayMicros : 0);
  }

  /** Refuses clients that waited too long, then admits as many as the bucket allows. */
  #serveLine(now: number): void {
    const { crowd } = this.#context;
    const admission = this.#admission;
    if (!admission || admission.waiting === 0) return;
    for (const kind of ["resume", "cold"] as const) {
      for (let client = admission.oldest(kind); client !== undefined; client = admission.oldest(kind)) {
        if ((now - (crowd.since[client] ?? 0)) * tickMs < maxQueueMs) break;
        admission.leaves(client);
        this.#underWay--;
        this.#refuse(client, now, this.#reconnectMs(now, 0));
      }
    }
    for (let client = admission.next(now * tickMs); client !== undefined; client = admission.next(now * tickMs)) {
      this.#underWay--;
      this.#check(client, now);
    }
  }

  /** The reconnect time of a refusal, from now. */
  #reconnectMs(now: number, notBeforeMs: number): number {
    return this.#admission?.reconnectInMs(now * tickMs, notBeforeMs) ?? notBeforeMs;
  }

  #isResume(client: number): boolean {
    return this.#context.settings.fleet.resume && !this.#context.crowd.isCold(client);
  }

  #check(client: number, now: number): void {
    this.#context.counters.admitted++;
    this.#underWay++;
    if (this.#isResume(client)) this.#queueAdmitted(client, now);
    else this.#context.ask(client);
  }

  #queueAdmitted(client: number, now: number): void {
    this.#context.crowd.queuedAt[client] = now;
    this.#context.crowd.lists.push(this.#admitted, client);
  }

  /** @returns the cost in µs. */
  #welcome(client: number, now: number): number {
    const { crowd, counters, settings } = this.#context;
    const isResume = this.#isResume(client);
    const micros = (isResume ? settings.costs.resumeMicros : settings.costs.coldMicros) - settings.costs.refusalMicros;
    this.#underWay--;
    if ((now - (crowd.dialledAt[client] ?? 0)) * tickMs > crowd.kind.connectTimeoutMs) {
      counters.failed++;
      crowd.failed(client, now);
    } else if ((now - (crowd.since[client] ?? 0)) * tickMs > connectDeadlineMs) {
      this.#refuse(client, now, undecidedRetryMs);
    } else {
      counters.welcomed++;
      if (isResume) counters.resumed++;
      this.#node.begin(client, now);
    }
    return micros;
  }

  #refuse(client: number, now: number, retryAfterMs: number): void {
    this.#context.counters.refused++;
    this.#context.crowd.refused(client, now, retryAfterMs);
  }
}
