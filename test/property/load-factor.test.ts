import fc from "fast-check";
import { expect, test } from "vitest";
import { admissionWeight } from "../../shared/load/admission-weight.ts";
import { desiredNodes, type LoadedNode } from "../../shared/load/desired-nodes.ts";
import { type Dimension, dimensionNames, type Dimensions } from "../../shared/load/dimensions.ts";
import { contribution, loadFactor, utilisationTargets } from "../../shared/load/factor.ts";
import { smoothed } from "../../shared/load/smoothing.ts";
import { dimensionsOf } from "../support/node-reports.ts";

const mostByNorm = dimensionNames.length ** (1 / 8);
const tiny = 1e-9;

const used = fc.double({ min: 0, max: 3, noNaN: true });
const dimensions: fc.Arbitrary<Dimensions> = fc.record({
  connections: used,
  eventLoop: used,
  cpu: used,
  delay: used,
  memory: used,
  outbound: used,
  admissions: fc.double({ min: 0, max: 1_000, noNaN: true }),
});
const name = fc.constantFrom(...dimensionNames);
const more = fc.double({ min: 0, max: 2, noNaN: true });

function raised(given: Dimensions, dimension: Dimension, by: number): Dimensions {
  return { ...given, [dimension]: given[dimension] + by };
}

test("LOAD-1: the factor rises with every dimension, is finite, and 1.0 with one dimension at target", () => {
  fc.assert(
    fc.property(dimensions, name, more, (given, dimension, by) => {
      const factor = loadFactor(given);
      expect(Number.isFinite(factor)).toBe(true);
      expect(loadFactor(raised(given, dimension, by))).toBeGreaterThanOrEqual(factor - tiny);
    }),
  );
  for (const dimension of dimensionNames) {
    expect(loadFactor(dimensionsOf({ [dimension]: 1 }))).toBeCloseTo(1, 12);
    expect(loadFactor(dimensionsOf({ [dimension]: 0.9 }))).toBeLessThan(1);
    expect(loadFactor(dimensionsOf({ [dimension]: 1.1 }))).toBeGreaterThan(1);
  }
  expect(loadFactor(dimensionsOf())).toBe(0);
});

test("LOAD-1: the factor is never below the fullest dimension, and two full ones count more than one", () => {
  fc.assert(
    fc.property(dimensions, (given) => {
      const fullest = Math.max(...dimensionNames.map((dimension) => contribution(dimension, given[dimension])));
      const factor = loadFactor(given);
      expect(factor).toBeGreaterThanOrEqual(fullest - tiny);
      expect(factor).toBeLessThanOrEqual(fullest * mostByNorm + tiny);
    }),
  );
  fc.assert(
    fc.property(name, name, (one, other) => {
      fc.pre(one !== other);
      const two = loadFactor(dimensionsOf({ [one]: 1, [other]: 1 }));
      expect(two).toBeGreaterThan(1.05);
      expect(two).toBeLessThan(1.1);
    }),
  );
});

test("LOAD-1: utilisation counts as its queue grows: little at half the target, much near saturation", () => {
  for (const dimension of ["eventLoop", "cpu"] as const) {
    const full = 1 / utilisationTargets[dimension];
    expect(contribution(dimension, 0.5)).toBeLessThan(0.4);
    expect(contribution(dimension, full)).toBeGreaterThan(5);
    fc.assert(
      fc.property(used, fc.double({ min: 0.001, max: 0.5, noNaN: true }), (given, step) => {
        const [before, at, after] = [given, given + step, given + 2 * step].map((value) =>
          contribution(dimension, value),
        );
        expect((after ?? 0) - (at ?? 0)).toBeGreaterThanOrEqual((at ?? 0) - (before ?? 0) - tiny);
      }),
    );
  }
});

test("LOAD-2: 99 % of a step shows within 10 s at any sample rate, without overshoot", () => {
  fc.assert(
    fc.property(dimensions, dimensions, fc.integer({ min: 100, max: 10_000 }), (from, to, everyMs) => {
      let shown = from;
      for (let at = everyMs; at <= 10_000; at += everyMs) shown = smoothed(shown, to, everyMs);
      const rest = 10_000 % everyMs;
      if (rest > 0) shown = smoothed(shown, to, rest);
      for (const dimension of dimensionNames) {
        const step = Math.abs(to[dimension] - from[dimension]);
        expect(Math.abs(to[dimension] - shown[dimension])).toBeCloseTo(step * 0.01, 6);
      }
    }),
  );
});

/** A fleet with evenly spread load. */
function fleetOf(count: number, work: Dimensions, idleMemory: number): LoadedNode[] {
  const one = Object.fromEntries(
    dimensionNames.map((dimension) => [
      dimension,
      dimension === "memory"
        ? idleMemory + (work.memory / count) * (1 - idleMemory)
        : work[dimension] / (dimension === "admissions" ? 1 : count),
    ]),
  ) as Dimensions;
  return Array.from({ length: count }, () => ({ state: "ready", dimensions: one, idleMemory }));
}

const amount = fc.double({ min: 0, max: 40, noNaN: true });
/** Load of the whole fleet, in nodes at target. */
const work: fc.Arbitrary<Dimensions> = fc.record({
  connections: amount,
  eventLoop: amount,
  cpu: amount,
  delay: amount,
  memory: amount,
  outbound: amount,
  admissions: amount,
});
const count = fc.integer({ min: 1, max: 60 });
const idleMemory = fc.double({ min: 0, max: 0.9, noNaN: true });

test("LOAD-3: desired nodes rise with the load, from two to about twice the ready nodes", () => {
  fc.assert(
    fc.property(work, count, idleMemory, name, more, (given, nodes, idle, dimension, by) => {
      const desired = desiredNodes(fleetOf(nodes, given, idle));
      expect(desired).toBeGreaterThanOrEqual(2);
      expect(desired).toBeLessThanOrEqual(2 * nodes + 2);
      expect(desiredNodes(fleetOf(nodes, raised(given, dimension, by), idle))).toBeGreaterThanOrEqual(desired);
    }),
  );
  expect(desiredNodes([])).toBe(2);
});

test("LOAD-3: the desired nodes are the fewest that stay at target after the loss of one", () => {
  fc.assert(
    fc.property(work, count, idleMemory, (given, nodes, idle) => {
      // More nodes reduce delay as far as utilisation causes it, and no admissions.
      const delay = Math.min(given.delay, Math.max(given.eventLoop, given.cpu));
      const carried = { ...given, delay, admissions: 0 };
      const desired = desiredNodes(fleetOf(nodes, given, idle));
      const factorOn = (many: number, times = 1): number =>
        loadFactor(
          dimensionsOf(Object.fromEntries(dimensionNames.map((each) => [each, (carried[each] * times) / many]))),
        );
      if (desired < 2 * nodes + 2) expect(factorOn(desired - 1)).toBeLessThanOrEqual(1 + tiny);
      if (desired > nodes && desired > 2) expect(factorOn(desired - 2)).toBeGreaterThan(1 - tiny);
      if (desired < nodes) {
        expect(factorOn(desired - 1, 1.2)).toBeLessThanOrEqual(1 + tiny);
        if (desired > 2) expect(factorOn(desired - 2, 1.2)).toBeGreaterThan(1 - tiny);
      }
    }),
    { numRuns: 500 },
  );
});

test("LOAD-3: a fleet of the desired size keeps it under a wavering load", () => {
  fc.assert(
    fc.property(work, count, idleMemory, fc.double({ min: 0.84, max: 1, noNaN: true }), (given, begin, idle, waver) => {
      let nodes = begin;
      for (let step = 0; step < 8; step++) nodes = desiredNodes(fleetOf(nodes, given, idle));
      expect(desiredNodes(fleetOf(nodes, given, idle))).toBe(nodes);
      // A fleet grown for the larger load shrinks at most once for a slightly smaller one.
      const less = Object.fromEntries(
        dimensionNames.map((dimension) => [dimension, given[dimension] * waver]),
      ) as Dimensions;
      const fewer = desiredNodes(fleetOf(nodes, less, idle));
      expect(desiredNodes(fleetOf(fewer, given, idle))).toBeGreaterThanOrEqual(fewer);
      if (begin < nodes) expect(fewer).toBe(nodes);
    }),
    { numRuns: 500 },
  );
});

test("LOAD-3: a draining node counts only by its load; a storm or a noisy neighbour adds no nodes", () => {
  const [busy] = fleetOf(1, dimensionsOf({ connections: 0.9 }), 0);
  if (!busy) throw new Error("one node");
  const draining: LoadedNode = { ...busy, state: "draining" };
  expect(desiredNodes([busy, busy])).toBe(3);
  expect(desiredNodes([busy, busy, busy, draining])).toBe(5);
  const noisy: LoadedNode = { state: "ready", dimensions: dimensionsOf({ delay: 5, admissions: 50 }), idleMemory: 0 };
  expect(desiredNodes([noisy, noisy])).toBe(2);
});

test("NODE-7: a node's admission weight falls with load and free seats, and is 0 if draining or full", () => {
  const seats = fc.integer({ min: 0, max: 10_000 });
  fc.assert(
    fc.property(dimensions, name, more, seats, (given, dimension, by, freeSeats) => {
      const weight = admissionWeight({ draining: false, freeSeats, dimensions: given });
      expect(weight).toBeLessThanOrEqual(freeSeats);
      expect(weight).toBeGreaterThanOrEqual(freeSeats * 0.05);
      const strained = { draining: false, freeSeats, dimensions: raised(given, dimension, by) };
      expect(admissionWeight(strained)).toBeLessThanOrEqual(weight + tiny);
      expect(admissionWeight({ draining: true, freeSeats, dimensions: given })).toBe(0);
    }),
  );
  const storm = dimensionsOf({ connections: 0.5, admissions: 30 });
  expect(admissionWeight({ draining: false, freeSeats: 50, dimensions: storm })).toBe(50);
  expect(admissionWeight({ draining: false, freeSeats: -1, dimensions: storm })).toBe(0);
});
