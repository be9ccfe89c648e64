/** The load factor of dispatchers, alone and as an autoscaler follows it over simulated queues. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Ages, type DispatchLoad, DispatchMeter, dispatchersLoad } from "../../shared/load/dispatch-load.ts";

const load = fc.record({
  busy: fc.double({ min: 0, max: 1.4, noNaN: true }),
  oldestMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  growth: fc.double({ min: -100, max: 100, noNaN: true }),
});
const loads = fc.array(load, { minLength: 1, maxLength: 40 });

test("LOAD-7: the factor is 1.0 where workers alone are at target, and rises with workers and age", () => {
  const of = (busy: number, oldestMs = 0): number => dispatchersLoad([{ busy, oldestMs, growth: 0 }]).factor;
  expect(of(1)).toBe(1);
  expect(of(0)).toBe(0);
  expect(of(0, 1e9)).toBe(0);
  expect(of(1.25, 60_000)).toBeGreaterThan(of(1.25));
  fc.assert(
    fc.property(load, fc.double({ min: 0, max: 1, noNaN: true }), ({ busy, oldestMs }, more) => {
      expect(of(busy + more, oldestMs)).toBeGreaterThanOrEqual(of(busy, oldestMs) - 1e-9);
      expect(of(busy, oldestMs + more * 10_000)).toBeGreaterThanOrEqual(of(busy, oldestMs) - 1e-9);
    }),
  );
});

test("LOAD-8: desired dispatchers are at least one, and at most twice those that report, plus two", () => {
  expect(dispatchersLoad([])).toEqual({ factor: 0, desired: 1 });
  fc.assert(
    fc.property(loads, (given) => {
      const { desired } = dispatchersLoad(given);
      expect(desired).toBeGreaterThanOrEqual(1);
      expect(desired).toBeLessThanOrEqual(2 * given.length + 2);
    }),
  );
});

test("LOAD-8: what waits asks for no dispatchers while their workers are free: it waits for something else", () => {
  fc.assert(
    fc.property(loads, (given) => {
      const idle = given.map((each) => ({ ...each, busy: Math.min(each.busy, 0.99) }));
      const { desired } = dispatchersLoad(idle);
      expect(desired).toBeLessThanOrEqual(given.length);
    }),
  );
});

interface Second {
  arriving: number;
  have: number;
  desired: number;
  oldestMs: number;
}

const decideEverySeconds = 15;
const startSeconds = 10;
const shrinkAfterSeconds = 300;
const stopEverySeconds = 60;

/**
 * Dispatchers that each work off `each` items a second, first in, first out, and an autoscaler that reads only `desired`, as the
 * recipe in deploy/kubernetes does.
 * @param arriving items in each second
 */
function simulate(arriving: readonly number[], each: number, begin: number): Second[] {
  const meters = Array.from({ length: begin }, () => new DispatchMeter());
  /** When dispatchers that were started are ready. */
  let starting: number[] = [];
  const waiting: { since: number; items: number }[] = [];
  let read: { at: number; desired: number }[] = [];
  let stoppedAt = -Infinity;
  const seconds: Second[] = [];
  for (const [now, items] of arriving.entries()) {
    for (const at of starting) if (at <= now) meters.push(new DispatchMeter());
    starting = starting.filter((at) => at > now);
    waiting.push({ since: now, items });
    let left = each * meters.length;
    const [first] = waiting;
    const oldestMs = first ? (now - first.since) * 1_000 : 0;
    let summedMs = 0;
    while (left > 0 && waiting[0]) {
      const taken = Math.min(left, waiting[0].items);
      waiting[0].items -= taken;
      left -= taken;
      summedMs += taken * (now - waiting[0].since) * 1_000;
      if (waiting[0].items <= 0) waiting.shift();
    }
    const places = 1 - left / (each * meters.length);
    for (const [at, meter] of meters.entries()) {
      // Each dispatcher tries other items: the ages that they see differ by a fifth.
      const seen = 1 + Math.sin(now * 1.7 + at) / 5;
      const meanMs = (summedMs / (each * meters.length * places)) * seen;
      meter.sample({ places, eventLoop: 0, ages: { oldestMs: oldestMs * seen, meanMs } }, 1_000);
    }
    const { desired } = dispatchersLoad(meters.map((meter) => meter.load));
    seconds.push({ arriving: items, have: meters.length, desired, oldestMs });
    if (now % decideEverySeconds > 0) continue;
    read = [...read.filter(({ at }) => at > now - shrinkAfterSeconds), { at: now, desired }];
    const have = meters.length + starting.length;
    for (let n = have; n < desired; n++) starting.push(now + startSeconds);
    const isCalm = now >= shrinkAfterSeconds && now - stoppedAt >= stopEverySeconds;
    if (isCalm && Math.max(...read.map(({ desired }) => desired)) < have) {
      meters.pop();
      stoppedAt = now;
    }
  }
  return seconds;
}

/** How often the number turned from growing to shrinking or back. */
function turns(seconds: readonly Second[]): number {
  let last = 0;
  let count = 0;
  for (const [at, { have }] of seconds.entries()) {
    const change = Math.sign(have - (seconds[at - 1]?.have ?? have));
    if (change !== 0 && last !== 0 && change !== last) count++;
    if (change !== 0) last = change;
  }
  return count;
}

const each = fc.integer({ min: 5, max: 2_000 });
/** Work in dispatchers that are fully used. */
const work = fc.double({ min: 0.2, max: 30, noNaN: true });

test("LOAD-8: after a step of the load dispatchers follow, the queue drains, and the number settles", () => {
  fc.assert(
    fc.property(each, work, work, (each, before, after) => {
      const needed = (load: number): number => Math.max(1, Math.ceil(load / 0.8));
      const calm = Array.from({ length: 120 }, () => before * each);
      const seconds = simulate(
        [...calm, ...Array.from({ length: 3_600 }, () => after * each)],
        each,
        needed(before),
      ).slice(calm.length);
      const most = Math.max(...seconds.map(({ have }) => have));
      expect(most).toBeLessThanOrEqual(Math.max(needed(before), 2.5 * needed(after) + 2));
      // Nothing waits any more after ten minutes, and never again.
      expect(Math.max(...seconds.slice(600).map(({ oldestMs }) => oldestMs))).toBe(0);
      expect(turns(seconds)).toBeLessThanOrEqual(1);
      const last = seconds.at(-1)?.have ?? 0;
      expect(last).toBeGreaterThanOrEqual(after);
      if (most > needed(before)) expect(last).toBeLessThanOrEqual(Math.max(needed(before), needed(after) * 1.2 + 1));
    }),
    { numRuns: 100 },
  );
});

test("LOAD-8: a load that wavers by a sixth keeps the number of dispatchers", () => {
  fc.assert(
    fc.property(
      each,
      fc.double({ min: 2, max: 30, noNaN: true }),
      fc.integer({ min: 20, max: 600 }),
      (each, peak, period) => {
        const arriving = Array.from({ length: 7_200 }, (_, now) => {
          const wave = (1 + Math.sin((now / period) * 2 * Math.PI)) / 2;
          return peak * each * (0.85 + 0.15 * wave);
        });
        const seconds = simulate(arriving, each, Math.ceil(peak / 0.8)).slice(1_200);
        expect(turns(seconds)).toBe(0);
      },
    ),
    { numRuns: 100 },
  );
});

test("LOAD-8: the measure of one dispatcher follows a step within ten seconds", () => {
  const meter = new DispatchMeter();
  const agesOf = (ms: number): Ages => ({ oldestMs: ms, meanMs: ms });
  for (let second = 0; second < 10; second++)
    meter.sample({ places: 1, eventLoop: 0, ages: agesOf(second * 500) }, 1_000);
  const { busy, growth }: DispatchLoad = meter.load;
  expect(busy).toBeCloseTo(1.25, 1);
  expect(growth).toBeGreaterThan(0.45);
  for (let second = 0; second < 10; second++) meter.sample({ places: 1, eventLoop: 0, ages: undefined }, 1_000);
  // No worker became free: the oldest item became older.
  expect(meter.load.growth).toBeCloseTo(1, 1);
  expect(meter.load.oldestMs).toBeGreaterThan(10_000);
});
