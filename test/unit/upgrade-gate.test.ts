/** Which connections open at once, later, or not at all. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Arrival, UpgradeGate } from "../../gateway/entrance/upgrade-gate.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout", "setImmediate", "clearImmediate"] });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const anAddress = "192.0.2.1";

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

test("END-6: the gate of a node that stops refuses what waits and what arrives", () => {
  let refused = 0;
  const gate = new UpgradeGate({ hasRoom: () => true, onRefused: () => refused++ });
  const before = arrivalsAt(gate, 110);
  expect(inState(before, "waiting")).toBe(10);
  gate.stop();
  const after = arrivalsAt(gate, 5);
  expect([inState(before, "open"), inState(before, "refused"), inState(after, "refused")]).toEqual([100, 10, 5]);
  vi.advanceTimersByTime(5_000);
  expect([inState(before, "open"), inState(after, "open"), refused]).toEqual([100, 0, 15]);
});
