import fc from "fast-check";
import { expect, test } from "vitest";
import { divideDrainTime, DrainSchedule, pace, type Survivors } from "../../gateway/moving/drain-schedule.ts";

const survivors = fc.record({
  admissionsPerSecond: fc.integer({ min: 0, max: 5_000 }),
  factor: fc.double({ min: 0, max: 3, noNaN: true }),
  ourPart: fc.double({ min: 0.01, max: 1, noNaN: true }),
});

/** Runs a drain in a changing fleet. @returns one entry per step. */
function run(
  { count, drainMs }: { count: number; drainMs: number },
  fleets: readonly Survivors[],
): { nowMs: number; due: number; fleet: Survivors }[] {
  const { balancerMs, lastMoveMs } = divideDrainTime(drainMs);
  const schedule = new DrainSchedule({ count, beginMs: balancerMs, lastMoveMs });
  const steps: { nowMs: number; due: number; fleet: Survivors }[] = [];
  for (let step = 0; step <= 200; step++) {
    const nowMs = balancerMs + ((lastMoveMs - balancerMs) * step) / 200;
    const fleet = fleets[step % fleets.length] as Survivors;
    schedule.advance(nowMs, fleet);
    steps.push({ nowMs, due: schedule.due, fleet });
  }
  return steps;
}

test("DRAIN-4: however the fleet changes, move times come in order and all before the deadline", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 50_000 }),
      fc.integer({ min: 100, max: 600_000 }),
      fc.array(survivors, { minLength: 1, maxLength: 20 }),
      (count, drainMs, fleets) => {
        const steps = run({ count, drainMs }, fleets);
        const dues = steps.map(({ due }) => due);
        expect(dues).toEqual(dues.toSorted((a, b) => a - b));
        expect(dues.at(-1)).toBe(count);
      },
    ),
  );
});

test("DRAIN-4: at most 0.7 of the other nodes' admissions are used, unless the time is too short", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50_000 }), survivors, (count, fleet) => {
      const drainMs = 60_000;
      const { balancerMs, lastMoveMs } = divideDrainTime(drainMs);
      const taken = 0.7 * fleet.admissionsPerSecond * fleet.ourPart;
      const needed = (count * 1000) / (lastMoveMs - balancerMs);
      for (const { nowMs, due } of run({ count, drainMs }, [fleet]).slice(0, -1)) {
        const most = (Math.max(taken, needed) * (nowMs - balancerMs)) / 1000;
        expect(due).toBeLessThanOrEqual(Math.ceil(most * 1.000001));
      }
    }),
  );
});

test("DRAIN-5: the fuller the other nodes are, the fewer sessions are due at any moment", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10_000 }),
      fc.integer({ min: 1, max: 5_000 }),
      fc.double({ min: 0, max: 2, noNaN: true }),
      fc.double({ min: 0, max: 2, noNaN: true }),
      (count, admissionsPerSecond, one, two) => {
        const [low, high] = [one, two].toSorted((a, b) => a - b) as [number, number];
        const drain = { count, drainMs: 60_000 };
        const easy = run(drain, [{ admissionsPerSecond, factor: low, ourPart: 1 }]);
        const hard = run(drain, [{ admissionsPerSecond, factor: high, ourPart: 1 }]);
        for (const [at, { due }] of hard.entries()) expect(due).toBeLessThanOrEqual(easy[at]?.due ?? 0);
      },
    ),
  );
  expect([0, 0.9, 1, 1.1, 5].map((factor) => Math.round(pace(factor) * 100) / 100)).toEqual([1, 1, 0.55, 0.1, 0.1]);
});

test("DRAIN-5: move times are announced again once the pace is a fifth lower or a quarter higher", () => {
  const schedule = new DrainSchedule({ count: 1_000, beginMs: 0, lastMoveMs: 60_000 });
  const hasShifted = (admissionsPerSecond: number): boolean => {
    schedule.advance(0, { admissionsPerSecond, factor: 0, ourPart: 1 });
    return schedule.hasShifted;
  };
  expect(hasShifted(100)).toBe(true);
  schedule.announced();
  expect([81, 79, 124, 126].map(hasShifted)).toEqual([false, true, false, true]);
});

test("DRAIN-5: when the other nodes fill up, remaining move times are announced again, once and later", () => {
  const easy = { admissionsPerSecond: 100, factor: 0.5, ourPart: 1 };
  const schedule = new DrainSchedule({ count: 1_000, beginMs: 0, lastMoveMs: 60_000 });
  schedule.advance(0, easy);
  expect(schedule.hasShifted).toBe(true);
  schedule.announced();
  expect([schedule.inMs(0), schedule.inMs(699)].map(Math.round)).toEqual([14, 10_000]);
  schedule.advance(5_000, easy);
  expect([schedule.due, schedule.hasShifted]).toEqual([350, false]);
  schedule.advance(5_050, { ...easy, factor: 1.05 });
  expect(schedule.hasShifted).toBe(true);
  schedule.announced();
  expect(schedule.inMs(699)).toBeGreaterThan(10_000);
  schedule.advance(10_000, { ...easy, factor: 1.05 });
  expect(schedule.hasShifted).toBe(false);
  // The last move time is in time, however full the other nodes are.
  expect(schedule.inMs(999)).toBeLessThanOrEqual(50_000);
});
