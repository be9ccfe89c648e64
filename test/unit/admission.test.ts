/** Parts of the entrance that depend on time. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AddressLimits } from "../../gateway/entrance/address-limits.ts";
import { Admission, type AdmissionShare, type Decision } from "../../gateway/entrance/admission.ts";
import { ByAddress } from "../../gateway/entrance/by-address.ts";
import { FairBudget } from "../../gateway/entrance/fair-budget.ts";
import { ClientFlow, type Passage } from "../../gateway/sessions/client-flow.ts";
import { RecentCount } from "../../gateway/entrance/recent-count.ts";
import { reconnectPolicy } from "../../gateway/entrance/reconnect-window.ts";
import { CurrentReconnectPolicy } from "../../gateway/entrance/current-reconnect-policy.ts";
import { announcementPrice, maxOpenRequests, prices, requestBudget } from "../../gateway/requests/prices.ts";
import { ReconnectTimes } from "../../gateway/entrance/reconnect-times.ts";
import { type Arrival, UpgradeGate } from "../../gateway/entrance/upgrade-gate.ts";
import type { AdmissionKind } from "../../gateway/entrance/admission-queue.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { networkOf } from "../../shared/http/network.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors } from "../support/logger.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout", "setImmediate", "clearImmediate"] });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

class Share implements AdmissionShare {
  sharePerSecond = 10;
  fairSharePerSecond = 0;
  budgetPerSecond = 10;
  nodes = [];
  asked = 0;
  report(): Promise<void> {
    this.asked++;
    return Promise.resolve();
  }
}

/** A node with this share, and handshakes that enter its queue. */
function node(sharePerSecond = 10): {
  share: Share;
  admission: Admission;
  enter: (kind: AdmissionKind) => { decision: Decision | undefined; leave: () => void };
} {
  const share = Object.assign(new Share(), { sharePerSecond });
  const metrics = new Metrics();
  const admitted = metrics.counter("admitted", "test", ["kind"]);
  const admission = new Admission({ share, admitted, waitSeconds: metrics.histogram("wait", "test", ["kind"]) });
  admission.onShare();
  return {
    share,
    admission,
    enter: (kind) => {
      const handshake: { decision: Decision | undefined; leave: () => void } = {
        decision: undefined,
        leave: () => undefined,
      };
      handshake.leave = admission.enter(
        { kind, address: anAddress, deadline: performance.now() + 5_000 },
        (decision) => {
          expect(handshake.decision).toBeUndefined();
          handshake.decision = decision;
        },
      );
      return handshake;
    },
  };
}

const anAddress = "192.0.2.1";
const admitted = { kind: "admitted" };
const count = (all: { decision: Decision | undefined }[], kind: Decision["kind"] | undefined): number =>
  all.filter(({ decision }) => decision?.kind === kind).length;

test("ADM-2: handshakes queue for at most 5 s; one that would exceed it is refused up front", () => {
  const { admission, enter } = node(10);
  const all = Array.from({ length: 80 }, () => enter("cold"));
  expect(count(all, undefined)).toBe(50);
  expect(count(all, "refused")).toBe(30);
  expect(admission.waiting).toBe(50);
  vi.advanceTimersByTime(2_500);
  expect(count(all, "admitted")).toBe(25);
  vi.advanceTimersByTime(2_600);
  expect(count(all, "admitted")).toBe(50);
  expect(admission.waiting).toBe(0);
});

test("ADM-2: resumes overtake cold handshakes in the queue, and do not starve them", () => {
  const { enter } = node(10);
  const cold = Array.from({ length: 20 }, () => enter("cold"));
  const resumes = Array.from({ length: 18 }, () => enter("resume"));
  vi.advanceTimersByTime(900);
  expect(count(resumes, "admitted")).toBe(9);
  expect(count(cold, "admitted")).toBe(0);
  vi.advanceTimersByTime(100);
  expect(count(cold, "admitted")).toBe(1);
});

test("ADM-2: a handshake that leaves the queue is not admitted, and the next one moves up", () => {
  const { admission, enter } = node(10);
  const [first, second] = [enter("cold"), enter("cold")];
  first.leave();
  vi.advanceTimersByTime(110);
  expect(first.decision).toBeUndefined();
  expect(second.decision).toEqual(admitted);
  expect(admission.waiting).toBe(0);
});

test("ADM-2: a handshake that is overtaken until its deadline is refused with a reconnect time", () => {
  const { enter } = node(10);
  const cold = Array.from({ length: 50 }, () => enter("cold"));
  vi.advanceTimersByTime(1_000);
  for (let i = 0; i < 40; i++) enter("resume");
  vi.advanceTimersByTime(4_100);
  expect(count(cold, undefined)).toBe(0);
  expect(count(cold, "refused")).toBeGreaterThan(20);
  expect(cold.at(-1)?.decision).toMatchObject({ kind: "refused", retryAfterMs: expect.any(Number) as number });
});

test("ADM-3: reconnect times are all different, and spread over the time that admission takes", () => {
  const { enter } = node(10);
  const refused = Array.from({ length: 250 }, () => enter("cold")).slice(50);
  const waits = refused.map(({ decision }) => (decision?.kind === "refused" ? decision.retryAfterMs : 0));
  // 50 are in the queue before them; 200 at nine in ten of 10 a second, and 5 % of jitter.
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(5_000);
  expect(Math.max(...waits)).toBeGreaterThan(25_000);
  expect(Math.max(...waits)).toBeLessThan(30_000);
  expect(new Set(waits).size).toBeGreaterThan(190);
});

test("ADM-3: a full node with hardly any share gives reconnect times at the rate of the fleet", () => {
  const { share, admission } = node(0.1);
  Object.assign(share, { budgetPerSecond: 200, nodes: [1, 2] });
  const waits = Array.from({ length: 90 }, () => admission.takeReconnectMs(anAddress, 5_000));
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(5_000);
  expect(Math.max(...waits)).toBeLessThan(6_500);
});

test("ADM-4: a node without a share admits none, asks for a share, and uses what it gets", () => {
  const { share, admission, enter } = node(0);
  const handshake = enter("cold");
  vi.advanceTimersByTime(1_000);
  expect(handshake.decision).toBeUndefined();
  expect(share.asked).toBeGreaterThan(1);
  share.sharePerSecond = 10;
  admission.onShare();
  vi.advanceTimersByTime(150);
  expect(handshake.decision).toEqual(admitted);
});

test("ADM-7: a draining node admits no more, and refuses the handshakes in its queue at once", () => {
  const { admission, enter } = node(10);
  const waiting = enter("resume");
  admission.close();
  expect(waiting.decision).toEqual({ kind: "closed" });
  expect(enter("resume").decision).toEqual({ kind: "closed" });
});

test("demand counts handshakes admitted, queued and refused within a second", () => {
  const { admission, enter } = node(10);
  for (let i = 0; i < 80; i++) enter("cold");
  expect(admission.demandPerSecond).toBe(80);
  vi.advanceTimersByTime(900);
  expect(admission.demandPerSecond).toBe(80);
  vi.advanceTimersByTime(400);
  expect(admission.demandPerSecond).toBeLessThan(50);
  admission.close();
});

test("RecentCount forgets what is older than a second, step by step", () => {
  const recent = new RecentCount();
  recent.add(10_000);
  recent.add(10_400);
  recent.add(10_450);
  expect(recent.total(10_999)).toBe(3);
  expect(recent.total(11_100)).toBe(2);
  expect(recent.total(60_000)).toBe(0);
});

class TestArrival implements Arrival {
  readonly address = anAddress;
  state: "waiting" | "open" | "refused" = "waiting";
  gone = false;
  retryAfterSeconds = 0;
  open(): void {
    this.state = "open";
  }
  refuse(seconds: number): void {
    this.state = "refused";
    this.retryAfterSeconds = seconds;
  }
}

function arrivalsAt(gate: UpgradeGate, number: number): TestArrival[] {
  return Array.from({ length: number }, () => {
    const arrival = new TestArrival();
    gate.arrive(arrival, false);
    return arrival;
  });
}
const inState = (arrivals: TestArrival[], state: TestArrival["state"]): number =>
  arrivals.filter((arrival) => arrival.state === state).length;

test("ADM-5: the gate opens twice the rate; arrivals beyond 2 s of it get a reconnect time", () => {
  let refused = 0;
  const gate = new UpgradeGate({ hasRoom: () => true, onRefused: () => refused++ });
  gate.setRate(100);
  const arrivals = arrivalsAt(gate, 1_000);
  // Tokens from before the rate was set: the bucket grows with the clock only.
  const atOnce = inState(arrivals, "open");
  expect(atOnce).toBe(100);
  expect(gate.waiting).toBe(400);
  expect(refused).toBe(500);
  const times = arrivals.filter(({ state }) => state === "refused").map(({ retryAfterSeconds }) => retryAfterSeconds);
  expect(Math.min(...times)).toBeGreaterThanOrEqual(2);
  expect(new Set(times).size).toBeGreaterThan(2);
  vi.advanceTimersByTime(1_000);
  expect(inState(arrivals, "open") - atOnce).toBeGreaterThan(190);
  expect(inState(arrivals, "open") - atOnce).toBeLessThanOrEqual(201);
  vi.advanceTimersByTime(1_100);
  expect(inState(arrivals, "waiting")).toBe(0);
});

test("ADM-5: the gate opens connections in slices, and yields the event loop in between", () => {
  let clock = 0;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
  const gate = new UpgradeGate({ hasRoom: () => true, onRefused: () => undefined });
  let opened = 0;
  const slow = Array.from({ length: 12 }, () => ({
    address: anAddress,
    gone: false,
    open: () => {
      opened++;
      clock += 2;
    },
    refuse: () => undefined,
  }));
  const openedPerTurn: number[] = [];
  for (const arrival of slow) gate.arrive(arrival, false);
  openedPerTurn.push(opened);
  while (gate.waiting > 0) {
    const before = opened;
    vi.runOnlyPendingTimers();
    openedPerTurn.push(opened - before);
  }
  expect(opened).toBe(12);
  expect(Math.max(...openedPerTurn)).toBeLessThanOrEqual(2);
});

test("ADM-6: the gate opens no connection while there is no room for one without a seat", () => {
  let room = 5;
  const gate = new UpgradeGate({ hasRoom: () => room > 0, onRefused: () => undefined });
  const arrivals = Array.from({ length: 8 }, () => {
    const arrival = new TestArrival();
    arrival.open = () => {
      arrival.state = "open";
      room--;
    };
    gate.arrive(arrival, false);
    return arrival;
  });
  vi.advanceTimersByTime(500);
  expect(inState(arrivals, "open")).toBe(5);
  const leaver = arrivals.at(-1);
  if (leaver) leaver.gone = true;
  room = 1;
  vi.advanceTimersByTime(50);
  expect(inState(arrivals, "open")).toBe(6);
  vi.advanceTimersByTime(2_000);
  expect(inState(arrivals, "refused")).toBe(1);
  expect(gate.waiting).toBe(0);
});

test("LIM-1: a burst passes, then the rate; each refusal has a later retry-after", () => {
  const flow = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const passages = Array.from({ length: 150 }, () => flow.pass(0));
  expect(passages.filter(({ kind }) => kind === "passed")).toHaveLength(100);
  expect(passages.slice(100).map((passage) => (passage.kind === "refused" ? passage.retryAfterMs : 0))).toEqual(
    Array.from({ length: 50 }, (_, i) => (i + 1) * 20),
  );
  const second = Array.from({ length: 100 }, () => flow.pass(1_000));
  expect(second.filter(({ kind }) => kind === "passed")).toHaveLength(50);
});

test("LIM-3: a client is cut a thousand messages past its limit, but not at twice its rate", () => {
  const flood = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const passages = Array.from({ length: 1_101 }, () => flood.pass(0));
  expect(passages.at(-2)?.kind).toBe("refused");
  expect(passages.at(-1)?.kind).toBe("flooding");
  const steady = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const kinds = new Set<Passage["kind"]>();
  for (let now = 0; now < 60_000; now += 10) kinds.add(steady.pass(now).kind);
  expect([...kinds]).toEqual(["passed", "refused"]);
});

test("LIM-5: bounds hold per address, of IPv6 per /64, until they have recovered", () => {
  const limits = new AddressLimits({ connections: 2, connectsPerSecond: 3 });
  const two = ["2001:db8::1", "2001:db8::2"];
  for (const address of two) {
    expect(limits.checkMs(address, 0)).toBeUndefined();
    limits.takeSeat(address);
  }
  expect(limits.checkMs("2001:db8:0:0:ffff::3", 0)).toBe(0);
  expect(limits.checkMs("2001:db8::4", 0)).toBe(334);
  expect(limits.checkMs("2001:db8:0:1::1", 0)).toBeUndefined();
  limits.giveUpSeat("2001:db8::2");
  expect(limits.checkMs("2001:db8::5", 1_000)).toBeUndefined();
  for (let i = 0; i < 1_000; i++) expect(limits.checkMs(`10.0.${i >> 8}.${i & 255}`, 2_000)).toBeUndefined();
});

test("WIN-1: sessions hear of a new window every 5 s at most, and never from a stopping node", () => {
  const session = bareSession("s");
  session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
  const send = vi.spyOn(session.outbox, "send");
  let admissionsPerSecond = 10;
  const sessions = Array.from({ length: 100 }, () => session);
  const policy = new CurrentReconnectPolicy({
    sessions: () => sessions,
    admissionsPerSecond: () => admissionsPerSecond,
    errors: quietErrors,
  });
  policy.update();
  expect(send).toHaveBeenCalledTimes(100);
  expect(policy.current.windowMs).toBe(14_286);
  vi.advanceTimersByTime(4_900);
  admissionsPerSecond = 100;
  policy.update();
  expect(send).toHaveBeenCalledTimes(100);
  vi.advanceTimersByTime(200);
  policy.update();
  expect(send).toHaveBeenCalledTimes(200);
  vi.advanceTimersByTime(10_000);
  policy.stop();
  admissionsPerSecond = 10;
  policy.update();
  expect(send).toHaveBeenCalledTimes(200);
  session.dispose();
});

test("LIM-5: past 50,000 addresses the rate of the oldest one is forgotten", () => {
  const limits = new AddressLimits({ connections: 0, connectsPerSecond: 1 });
  expect([limits.checkMs("10.0.0.1", 0), limits.checkMs("10.0.0.1", 0)]).toEqual([undefined, 1_000]);
  for (let i = 0; i < 50_000; i++) limits.checkMs(`10.1.${i >> 8}.${i & 255}`, 0);
  expect(limits.checkMs("10.0.0.1", 0)).toBeUndefined();
});

test("ADM-3: no reconnect time is more than 10 min ahead, however many clients are refused", () => {
  const times = new ReconnectTimes();
  const waits = Array.from({ length: 7_000 }, () => times.take(0, { perSecond: 10, notBeforeMs: 5_000 }));
  expect(Math.max(...waits)).toBeLessThanOrEqual(600_000);
  // Past the horizon, times are random in its second half.
  const beyond = waits.slice(6_000);
  expect(Math.min(...beyond)).toBeGreaterThanOrEqual(300_000);
  expect(new Set(beyond).size).toBeGreaterThan(900);
});

test.for([
  ["127.0.0.1", "127.0.0.1"],
  ["::ffff:10.0.0.1", "10.0.0.1"],
  ["::1", "0:0:0:0::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("LIM-5: %s counts as %s", ([address = "", network]) => {
  expect(networkOf(address)).toBe(network);
});

test.for([
  [0, 1_000, 1_000],
  [7_000, 1_000, 10_000],
  [10_000_000, 1_000, 600_000],
  [1, 1, 1_429],
])("WIN-1: %i sessions and %i admissions a second make a window of %i ms", ([sessions = 0, rate = 0, windowMs]) => {
  expect(reconnectPolicy(sessions, rate)).toEqual({ minDelayMs: 0, windowMs });
});

test("ADM-2: handshakes at a new node wait for the fair share that it will get", () => {
  const { share, enter } = node(1);
  share.fairSharePerSecond = 100;
  const crowd = Array.from({ length: 100 }, () => enter("cold"));
  expect(crowd.filter(({ decision }) => decision?.kind === "refused")).toEqual([]);
});

test("LIM-2: a client reads all of its channels at once, then twenty a second", () => {
  const flow = new ClientFlow(requestBudget, 0, maxOpenRequests);
  const pass = (name: keyof typeof prices, count: number, now: number): number =>
    Array.from({ length: count }, () => flow.pass(now, prices[name])).filter(({ kind }) => kind === "passed").length;
  expect(pass("sync:subscribe", 200, 0)).toBe(200);
  // Each joins a channel that announces it to others.
  for (let i = 0; i < 200; i++) flow.answered(announcementPrice);
  expect(pass("sync:presence", 200, 0)).toBe(200);
  expect(pass("sync:history", 200, 0)).toBe(200);
  for (let i = 0; i < 400; i++) flow.answered();
  let passed = 0;
  for (let now = 0; now < 10_000; now += 50) {
    const read = pass("sync:history", 2, now);
    for (let i = 0; i < read; i++) flow.answered();
    passed += read;
  }
  expect(passed).toBeGreaterThanOrEqual(198);
  expect(passed).toBeLessThanOrEqual(200);
});

test("LIM-2: a client that joins and leaves repeatedly is announced eight times a second", () => {
  const flow = new ClientFlow(requestBudget, 0, maxOpenRequests);
  let announced = 0;
  for (let now = 0; now < 60_000; now += 10) {
    for (const name of ["sync:subscribe", "sync:unsubscribe"] as const) {
      if (flow.pass(now, prices[name]).kind !== "passed") continue;
      flow.answered(announcementPrice);
      announced++;
    }
  }
  const atOnce = requestBudget.capacity / 12;
  expect(announced).toBeGreaterThan(atOnce);
  expect(announced).toBeLessThan(atOnce + 60 * 17);
});

test("LIM-2: a client has at most 600 open requests", () => {
  const flow = new ClientFlow({ capacity: 10_000, perSecond: 1 }, 0, 600);
  const kinds = Array.from({ length: 601 }, () => flow.pass(0).kind);
  expect(kinds.slice(0, 600).every((kind) => kind === "passed")).toBe(true);
  expect(kinds[600]).toBe("refused");
  expect(flow.pass(0)).toMatchObject({ kind: "refused", retryAfterMs: 1_000 });
  flow.answered();
  expect(flow.pass(0).kind).toBe("passed");
});

describe("reconnect times and addresses", () => {
  const perSecond = 100;
  const waits = (times: ReconnectTimes, count: number, address: (i: number) => string, now = 0): number[] =>
    Array.from({ length: count }, (_, i) => times.take(now, { perSecond, notBeforeMs: 1_000, address: address(i) }));

  test("RET-1: reconnect times follow one another at the rate, each up to 5 % further away", () => {
    const [least, most] = [0, 1 - Number.EPSILON].map((random) =>
      waits(new ReconnectTimes({ random: () => random }), 200, (i) => `192.0.2.${i}`),
    );
    expect(least).toEqual(Array.from({ length: 200 }, (_, i) => 1_000 + 10 * i));
    for (const [i, waitMs] of (least ?? []).entries()) expect((most?.[i] ?? 0) / waitMs).toBeCloseTo(1.05, 2);
  });

  test("RET-1: an address that is refused repeatedly delays others by 5 s at most", () => {
    const times = new ReconnectTimes();
    waits(times, 10_000, () => "192.0.2.1");
    expect(times.take(0, { perSecond, notBeforeMs: 1_000, address: "192.0.2.2" })).toBeLessThanOrEqual(6_310);
    // A hundred more addresses have one place each.
    waits(times, 10_000, (i) => `2001:db8:0:${i % 100}::${i}`);
    expect(times.take(0, { perSecond, notBeforeMs: 1_000, address: "192.0.2.3" })).toBeLessThanOrEqual(7_370);
    // Ten minutes later, all these times have passed.
    waits(times, 10_000, () => "192.0.2.1", 700_000);
    expect(times.take(700_000, { perSecond, notBeforeMs: 1_000, address: "192.0.2.2" })).toBeLessThanOrEqual(6_310);
  });

  test("RET-1: the clients of one address are spread over the time that their admission takes", () => {
    const times = new ReconnectTimes({ random: () => 0 });
    waits(times, 500, (i) => `192.0.2.${i % 250}`);
    const crowd = waits(times, 3_000, () => "198.51.100.1").sort((one, other) => one - other);
    expect(crowd.at(-1)).toBeGreaterThan(30_000);
    for (let i = 100; i < crowd.length; i++) expect((crowd[i] ?? 0) - (crowd[i - 100] ?? 0)).toBeGreaterThan(950);
    // Two crowds share the rate.
    const other = waits(times, 1_000, () => "198.51.100.2").sort((one, next) => one - next);
    expect((other.at(-1) ?? 0) - (other[1] ?? 0)).toBeGreaterThan(19_000);
  });
});

describe("a budget that addresses share", () => {
  const taken = (budget: FairBudget, count: number, address: string, now: number): number =>
    Array.from({ length: count }, () => budget.take(address, now)).filter(Boolean).length;

  test("BOOT-8: a lone address uses most of the budget; modest addresses are served beside it", () => {
    const budget = new FairBudget(100, 0);
    expect(taken(budget, 1_000, "192.0.2.1", 0)).toBe(80);
    expect(taken(budget, 5, "192.0.2.2", 0)).toBe(5);
    let [greedy, modest] = [0, 0];
    for (let now = 10; now <= 10_000; now += 10) {
      greedy += taken(budget, 10, "192.0.2.1", now);
      if (now % 200 === 0) modest += taken(budget, 1, `2001:db8:0:${now}::1`, now);
    }
    expect(modest).toBe(50);
    expect(greedy).toBeGreaterThan(900);
    expect(greedy + modest).toBeLessThanOrEqual(1_020);
  });

  test("BOOT-8: extra costs of an address are also charged to its own part", () => {
    const budget = new FairBudget(100, 0);
    for (let now = 0; now < 10_000; now += 10) {
      if (budget.take("192.0.2.1", now)) budget.owe("192.0.2.1", 4, now);
    }
    expect(taken(budget, 10, "192.0.2.2", 10_000)).toBe(10);
  });
});

test("RET-2: past 10,000 addresses the oldest one counts as new", () => {
  const seen = new ByAddress<{ at: number }>({ isOver: ({ at }, now) => now > at + 1_000 });
  const first = seen.of("10.0.0.1", 0, () => ({ at: 0 }));
  expect(seen.of("10.0.0.1", 0, () => ({ at: 0 }))).toBe(first);
  for (let i = 0; i < 10_000; i++) seen.of(`10.1.${i >> 8}.${i & 255}`, 0, () => ({ at: 0 }));
  expect(seen.of("10.0.0.1", 0, () => ({ at: 0 }))).not.toBe(first);
});
