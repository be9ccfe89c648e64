/**
 * A gateway: its event loop as a queue of work in µs of CPU, its seats, and what it decides about each handshake.
 *
 * Deliveries and pings of its sessions come first, handshakes have the rest; how long everything waits is the work that is
 * queued. Where that is longer than a ping may take, sessions fall.
 */
import { connectDeadlineMs } from "../../shared/protocol/limits.ts";
import { defaultLiveness } from "../../gateway/engine/liveness.ts";
import { undecidedRetryMs } from "../../gateway/sessions/authentication.ts";
import { nobody } from "./client-lists.ts";
import type { Counters } from "./counters.ts";
import type { Crowd } from "./crowd.ts";
import { maxQueueMs } from "../../gateway/entrance/admission.ts";
import { type Given, maxGateMs, NodeAdmission } from "./node-admission.ts";
import type { SeededRandom } from "./random.ts";
import type { Settings } from "./settings.ts";
import { tickMs } from "./timers.ts";

export const listsPerNode = 4;
const capacityRetryMs = 5_000;
const drainRetryMs = 1_000;
/** Dials that the kernel keeps for a process: what Node asks for where nobody says more. */
const backlog = 511;

export interface NodeSurroundings {
  readonly settings: Settings;
  readonly crowd: Crowd;
  readonly counters: Counters;
  readonly random: SeededRandom;
  /** Of the services, whether a client may connect. */
  ask(client: number): void;
  /** A client is welcome elsewhere, and leaves the node it was with. */
  left(node: number): void;
  outOfMemory(node: GatewayNode): void;
  readonly redisAway: boolean;
}

export class GatewayNode {
  readonly number: number;
  /** `silent`: it says nothing, not even that it is gone. */
  state: "up" | "draining" | "down" | "silent" = "up";
  /** What its last welcome or policy said of the reconnect window. */
  windowMs = 0;
  startedAt = 0;
  readonly #around: NodeSurroundings;
  readonly #sessionList: number;
  readonly #arrivals: number;
  readonly #admitted: number;
  readonly #atGate: number;
  #admission: NodeAdmission | undefined;
  /** Those that have a slot included. */
  #sessions = 0;
  #handshakes = 0;
  /** Work of its sessions that waits, and of dials that were given up before it came to them; µs. */
  #sessionWork = 0;
  #wastedWork = 0;
  /** What the last tick did beyond its time. */
  #overdrawn = 0;
  #falling = 0;

  constructor(number: number, around: NodeSurroundings) {
    this.number = number;
    this.#around = around;
    this.#sessionList = around.crowd.lists.create(listsPerNode);
    this.#arrivals = this.#sessionList + 1;
    this.#admitted = this.#sessionList + 2;
    this.#atGate = this.#sessionList + 3;
    this.#admission = this.#newAdmission(0);
  }

  get sessions(): number {
    return this.#sessions;
  }

  get seats(): number {
    return this.#sessions + this.#handshakes;
  }

  /** Open to it, answered or not: what a balancer counts. */
  get connections(): number {
    const { lists } = this.#around.crowd;
    return this.seats + lists.size(this.#arrivals) + lists.size(this.#atGate);
  }

  /** In line. */
  get waiting(): number {
    return this.#admission?.waiting ?? 0;
  }

  get freeSeats(): number {
    const { cap, connectionsInMemory } = this.#around.settings.fleet;
    return Math.max(0, (cap ?? connectionsInMemory) - this.seats);
  }

  /** How long whatever comes now waits for its turn. */
  get delayMs(): number {
    const { lists } = this.#around.crowd;
    const { costs, fleet } = this.#around.settings;
    const queued =
      lists.size(this.#arrivals) * (fleet.admission ? costs.turnedAwayMicros : costs.refusalMicros) +
      lists.size(this.#admitted) * (costs.coldMicros - costs.refusalMicros);
    return (queued + this.#sessionWork + this.#wastedWork) / fleet.coresPerNode / 1_000;
  }

  /** Connected since before the run. */
  settle(client: number): void {
    this.#sessions++;
    this.#around.crowd.settle(client, this.number);
    this.#around.crowd.lists.push(this.#sessionList, client);
  }

  /** A dial reaches it. */
  offer(client: number, now: number): void {
    const { crowd, counters, settings } = this.#around;
    if (this.state === "down" || this.state === "silent") {
      crowd.arrives(client, this.number, now);
      counters.failed++;
      return crowd.failed(client, now, this.state === "silent" ? crowd.kind.connectTimeoutMs : 0);
    }
    if (crowd.lists.size(this.#arrivals) >= backlog) return crowd.dropped(client, now);
    crowd.arrives(client, this.number, now);
    crowd.queuedAt[client] = now;
    crowd.lists.push(this.#arrivals, client);
    if (this.seats + crowd.lists.size(this.#arrivals) > settings.fleet.connectionsInMemory) {
      this.#around.outOfMemory(this);
    }
  }

  /** What the connect hook says. */
  answered(client: number, allowed: boolean, now: number): void {
    const { crowd, counters } = this.#around;
    if (this.state === "down" || this.state === "silent" || (crowd.since[client] ?? 0) < this.startedAt) {
      counters.failed++;
      return crowd.failed(client, now);
    }
    if (allowed) return this.#queueAdmitted(client, now);
    this.#handshakes--;
    this.#refuse(client, now, undecidedRetryMs);
  }

  tick(now: number): void {
    if (this.state === "down" || this.state === "silent") return;
    const { settings, crowd, counters } = this.#around;
    const { costs, fleet, deliveriesPerSecond } = settings;
    const perSession = costs.idleMicrosPerSecond + deliveriesPerSecond * costs.deliveryMicros;
    this.#sessionWork += (this.#sessions * perSession * tickMs) / 1_000;
    this.#giveUpLate(now);

    let time = fleet.coresPerNode * tickMs * 1_000 - this.#overdrawn;
    const forSessions = Math.min(Math.max(0, time), this.#sessionWork);
    this.#sessionWork -= forSessions;
    time -= forSessions;
    const forNobody = Math.min(Math.max(0, time), this.#wastedWork);
    this.#wastedWork -= forNobody;
    time -= forNobody;
    this.#letIn(now);
    time -= this.#openGate(now, time);
    while (time > 0) {
      const arrival = crowd.lists.first(this.#arrivals);
      const admitted = crowd.lists.first(this.#admitted);
      if (arrival === nobody && admitted === nobody) break;
      const isArrivalFirst =
        admitted === nobody ||
        (arrival !== nobody && (crowd.queuedAt[arrival] ?? 0) <= (crowd.queuedAt[admitted] ?? 0));
      if (isArrivalFirst) {
        crowd.lists.shift(this.#arrivals);
        time -= this.#arrive(arrival, now);
      } else {
        crowd.lists.shift(this.#admitted);
        time -= this.#welcome(admitted, now);
      }
    }
    this.#overdrawn = Math.max(0, -time);

    if (this.delayMs > defaultLiveness.pingTimeoutMs) {
      this.#falling += (this.#sessions * tickMs) / defaultLiveness.pingIntervalMs;
      for (; this.#falling >= 1; this.#falling--) {
        const client = crowd.lists.shift(this.#sessionList);
        if (client === nobody) break;
        this.#sessions--;
        counters.fallen++;
        crowd.broken(client, now, this.windowMs);
      }
    }
  }

  /** The process is gone. @param noticed how long a client takes to see it, in ms. */
  end(now: number, state: "down" | "silent", noticed: () => number): number {
    const { crowd, counters } = this.#around;
    this.state = state;
    let ended = 0;
    if (this.#sessions > crowd.lists.size(this.#sessionList)) {
      for (let client = 0; client < crowd.size; client++) {
        if (!crowd.hasSlot(client) || crowd.nodeOf(client) !== this.number) continue;
        crowd.brokenInSlot(client);
        ended++;
      }
    }
    for (let client = crowd.lists.shift(this.#sessionList); client !== nobody; ended++) {
      crowd.broken(client, now, this.windowMs, noticed());
      client = crowd.lists.shift(this.#sessionList);
    }
    const fail = (client: number): void => {
      counters.failed++;
      crowd.failed(client, now, noticed());
    };
    for (const list of [this.#arrivals, this.#admitted, this.#atGate]) {
      for (let client = crowd.lists.shift(list); client !== nobody; client = crowd.lists.shift(list)) fail(client);
    }
    for (let client = this.#admission?.dismiss(); client !== undefined; client = this.#admission?.dismiss())
      fail(client);
    this.#sessions = this.#handshakes = 0;
    this.#sessionWork = this.#wastedWork = this.#overdrawn = this.#falling = 0;
    return ended;
  }

  /** Every session breaks, the node stays. */
  cut(now: number): void {
    const { crowd, counters } = this.#around;
    for (let client = crowd.lists.shift(this.#sessionList); client !== nobody;) {
      this.#sessions--;
      counters.ended++;
      crowd.broken(client, now, this.windowMs);
      client = crowd.lists.shift(this.#sessionList);
    }
  }

  start(now: number): void {
    this.state = "up";
    this.startedAt = now;
    this.#admission = this.#newAdmission(now);
  }

  /** Each session is told when to go, one after the other over the window; 0: all at once. */
  sendAway(now: number, windowMs: number): void {
    const { crowd } = this.#around;
    const count = crowd.lists.size(this.#sessionList);
    for (let i = 0; i < count; i++) {
      const client = crowd.lists.shift(this.#sessionList);
      crowd.givenSlot(client, now, (windowMs * i) / count);
    }
  }

  /** A session that cannot move by itself is closed in its slot. */
  closeInSlot(client: number, now: number): void {
    this.#sessions--;
    this.#around.counters.ended++;
    this.#around.crowd.broken(client, now, this.windowMs);
  }

  /** A session of its own is welcome elsewhere. */
  left(): void {
    this.#sessions--;
    this.#around.counters.moved++;
  }

  /** A user leaves for good, and somebody else comes. */
  replaceOldest(now: number): void {
    const { crowd } = this.#around;
    const client = crowd.lists.shift(this.#sessionList);
    if (client === nobody) return;
    this.#sessions--;
    crowd.replaced(client, now);
  }

  give(given: Given, now: number): void {
    this.#admission?.give(given, now * tickMs);
  }

  #newAdmission(now: number): NodeAdmission | undefined {
    const { settings, random } = this.#around;
    const { admission, nodes } = settings.fleet;
    if (!admission) return undefined;
    const { budgetPerSecond } = admission;
    return new NodeAdmission({ budgetPerSecond, nodes, nowMs: now * tickMs, random: () => random.next() });
  }

  /** A request for an upgrade. @returns what it cost. */
  #arrive(client: number, now: number): number {
    const { crowd, settings } = this.#around;
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

  /** @returns what it cost, which is little more than `time`. */
  #openGate(now: number, time: number): number {
    const { crowd } = this.#around;
    let spent = 0;
    for (let client = crowd.lists.first(this.#atGate); client !== nobody; client = crowd.lists.first(this.#atGate)) {
      const isLate = (now - (crowd.queuedAt[client] ?? 0)) * tickMs >= maxGateMs;
      if (!isLate && (spent >= time || !this.#admission?.opens(now * tickMs))) break;
      crowd.lists.shift(this.#atGate);
      if (isLate) this.#turnAway(client, now);
      else spent += this.#open(client, now);
    }
    return spent;
  }

  /** 503: its client sees a dial that failed. */
  #turnAway(client: number, now: number): void {
    this.#around.counters.turnedAway++;
    this.#around.crowd.failed(client, now);
  }

  /** A connection: seat, then a place in line. @returns what it cost, a refusal included. */
  #open(client: number, now: number): number {
    const { crowd, settings, redisAway } = this.#around;
    const { cap } = settings.fleet;
    const admission = this.#admission;
    crowd.since[client] = now;
    if (this.state === "draining") this.#refuse(client, now, drainRetryMs);
    else if (cap !== undefined && this.seats >= cap) this.#refuse(client, now, this.#slotMs(now, capacityRetryMs));
    else if (redisAway && !this.#isResume(client)) this.#refuse(client, now, this.#slotMs(now, undecidedRetryMs));
    else if (!admission) this.#check(client, now);
    else {
      switch (admission.enter(client, this.#isResume(client) ? "resume" : "cold", now * tickMs)) {
        case "admitted":
          this.#check(client, now);
          break;
        case "waits":
          this.#handshakes++;
          break;
        case "refused":
          this.#refuse(client, now, this.#slotMs(now, 0));
      }
    }
    return settings.costs.refusalMicros - (admission ? settings.costs.turnedAwayMicros : 0);
  }

  /** Whoever has waited too long gets a slot instead. */
  #letIn(now: number): void {
    const { crowd } = this.#around;
    const admission = this.#admission;
    if (!admission || admission.waiting === 0) return;
    for (const kind of ["resume", "cold"] as const) {
      for (let client = admission.oldest(kind); client !== undefined; client = admission.oldest(kind)) {
        if ((now - (crowd.since[client] ?? 0)) * tickMs < maxQueueMs) break;
        admission.leaves(client);
        this.#handshakes--;
        this.#refuse(client, now, this.#slotMs(now, 0));
      }
    }
    for (let client = admission.next(now * tickMs); client !== undefined; client = admission.next(now * tickMs)) {
      this.#handshakes--;
      this.#check(client, now);
    }
  }

  #slotMs(now: number, notBeforeMs: number): number {
    return this.#admission?.returnInMs(now * tickMs, notBeforeMs) ?? notBeforeMs;
  }

  #isResume(client: number): boolean {
    return this.#around.settings.fleet.resume && !this.#around.crowd.isCold(client);
  }

  #check(client: number, now: number): void {
    this.#around.counters.letIn++;
    this.#handshakes++;
    if (this.#isResume(client)) this.#queueAdmitted(client, now);
    else this.#around.ask(client);
  }

  #queueAdmitted(client: number, now: number): void {
    this.#around.crowd.queuedAt[client] = now;
    this.#around.crowd.lists.push(this.#admitted, client);
  }

  /** @returns what it cost. */
  #welcome(client: number, now: number): number {
    const { crowd, counters, settings } = this.#around;
    const isResume = this.#isResume(client);
    const micros = (isResume ? settings.costs.resumeMicros : settings.costs.coldMicros) - settings.costs.refusalMicros;
    this.#handshakes--;
    if ((now - (crowd.dialledAt[client] ?? 0)) * tickMs > crowd.kind.connectTimeoutMs) {
      counters.failed++;
      crowd.failed(client, now);
    } else if ((now - (crowd.since[client] ?? 0)) * tickMs > connectDeadlineMs) {
      this.#refuse(client, now, undecidedRetryMs);
    } else {
      counters.admitted++;
      if (isResume) counters.resumed++;
      if (crowd.isMoving(client)) this.#around.left(crowd.nodeOf(client));
      crowd.welcomed(client, now);
      crowd.lists.push(this.#sessionList, client);
      this.#sessions++;
    }
    return micros;
  }

  #refuse(client: number, now: number, retryAfterMs: number): void {
    this.#around.counters.refused++;
    this.#around.crowd.refused(client, now, retryAfterMs);
  }

  /** Dials whose client has given up are worked off all the same. */
  #giveUpLate(now: number): void {
    const { crowd, counters, settings } = this.#around;
    const oldest = now - crowd.kind.connectTimeoutMs / tickMs;
    for (let first = crowd.lists.first(this.#arrivals); first !== nobody; first = crowd.lists.first(this.#arrivals)) {
      if ((crowd.dialledAt[first] ?? 0) > oldest) break;
      crowd.lists.shift(this.#arrivals);
      this.#wastedWork += settings.costs.refusalMicros;
      counters.failed++;
      crowd.failed(first, now);
    }
  }
}
