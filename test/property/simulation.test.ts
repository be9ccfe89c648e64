/** The simulated fleet, in any shape: no client is lost or counted twice, the budget holds, a resume calls no service. */
import fc from "fast-check";
import { Manager } from "socket.io-client";
import { afterEach, expect, test, vi } from "vitest";
import { RetrySchedule } from "../../client/src/connection/timing.ts";
import {
  type ClientKindName,
  clientKinds,
  retryDelayMs,
  stockDelayMs,
} from "../../loadtest/simulation/client-kinds.ts";
import { scenarios, type ScenarioName } from "../../loadtest/simulation/events.ts";
import { readFigures } from "../../loadtest/simulation/figures.ts";
import { defaultSettings, type Settings } from "../../loadtest/simulation/settings.ts";
import { Simulation } from "../../loadtest/simulation/simulation.ts";

const figures = readFigures();
const simulatedSeconds = 60;

const shapes = fc.record({
  scenario: fc.constantFrom<ScenarioName>("node", "zone", "fleet", "balancer", "redis", "deploy"),
  kind: fc.constantFrom<ClientKindName>("stock", "stock-obeying", "full-jitter", "slots"),
  nodes: fc.integer({ min: 2, max: 30 }),
  clients: fc.integer({ min: 100, max: 3_000 }),
  budgetPerSecond: fc.integer({ min: 20, max: 2_000 }),
  seed: fc.nat(),
});

function simulate(
  { scenario: name, ...shape }: typeof shapes extends fc.Arbitrary<infer Shape> ? Shape : never,
  changes: Partial<Settings> = {},
): Simulation {
  const { stayMinutes, events } = scenarios[name];
  const settings = { ...defaultSettings(shape, figures), stayMinutes, horizonSeconds: simulatedSeconds, ...changes };
  return new Simulation(settings, events(shape.nodes));
}

afterEach(() => {
  vi.restoreAllMocks();
});

test("the same seed gives the same run, another seed another", () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const recording = simulate(shape).run();
      expect(simulate(shape).run()).toEqual(recording);
      if (shape.scenario === "fleet") expect(simulate({ ...shape, seed: shape.seed + 1 }).run()).not.toEqual(recording);
    }),
    { numRuns: 15 },
  );
});

test("every client is in one place at any moment, and each node knows how many it serves", () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const simulation = simulate(shape);
      const { crowd, nodes } = simulation;
      for (let tick = 0; tick < simulatedSeconds * 100; tick++) {
        simulation.tick();
        const inLine = nodes.reduce((sum, { waiting }) => sum + waiting, 0);
        if (crowd.lists.total + inLine !== shape.clients)
          expect.fail(`at tick ${tick}: ${crowd.lists.total} + ${inLine}`);
        const served = nodes.reduce((sum, { sessions }) => sum + sessions, 0);
        if (served !== crowd.connected) expect.fail(`at tick ${tick}: ${served} served, ${crowd.connected} connected`);
      }
      expect(crowd.census().reduce((sum, count) => sum + count, 0)).toBe(shape.clients);
    }),
    { numRuns: 15 },
  );
});

test("no window of a second admits more than the fleet's budget, and the shares never exceed it", () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const simulation = simulate(shape);
      const recording = simulation.run(() => {
        expect(simulation.inForcePerSecond).toBeLessThanOrEqual(shape.budgetPerSecond);
      });
      // A node with a share near 0 may admit one client more.
      expect(recording.peakAdmittedPerSecond).toBeLessThanOrEqual(shape.budgetPerSecond + shape.nodes);
    }),
    { numRuns: 25 },
  );
});

test("a resume calls no service; every new session calls one once", () => {
  fc.assert(
    fc.property(shapes, fc.constantFrom(0, 0.05, 0.5, 1), (shape, coldShare) => {
      const simulation = simulate({ ...shape, kind: "full-jitter" }, { coldShare, stayMinutes: 0 });
      const { totals } = simulation.run();
      expect(totals.authCalls).toBeLessThanOrEqual(totals.admitted - totals.resumed);
      expect(totals.authCalls).toBeGreaterThanOrEqual(totals.welcomed - totals.resumed);
      if (coldShare === 0) expect(totals.authCalls).toBe(0);
    }),
    { numRuns: 15 },
  );
});

test("simulated SDK clients wait as the SDK does", () => {
  const setbacks = fc.array(
    fc.record({
      windowMs: fc.constantFrom(-1, -1, 5_000, 60_000),
      retryAfterMs: fc.constantFrom(-1, -1, 0, 2_000, 700_000),
      draw: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    }),
  );
  fc.assert(
    fc.property(setbacks, (steps) => {
      let draw = 0;
      let lastWindowMs = 0;
      const schedule = new RetrySchedule(() => draw);
      steps.forEach(({ windowMs, retryAfterMs, draw: drawn }, failures) => {
        draw = drawn;
        if (windowMs >= 0) lastWindowMs = windowMs;
        const policy = windowMs < 0 ? undefined : { minDelayMs: 0, windowMs };
        const sdk = schedule.nextDelayMs({ policy, retryAfterMs: retryAfterMs < 0 ? undefined : retryAfterMs });
        expect(
          retryDelayMs(clientKinds["full-jitter"], { failures, windowMs, lastWindowMs, retryAfterMs }, () => drawn),
        ).toBe(sdk);
      });
    }),
  );
});

test("simulated stock clients wait as socket.io-client does", () => {
  const draws = fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { maxLength: 12 });
  fc.assert(
    fc.property(draws, (drawn) => {
      const manager = new Manager("http://127.0.0.1:1", { autoConnect: false }) as unknown as {
        backoff: { duration(): number };
      };
      const random = vi.spyOn(Math, "random");
      drawn.forEach((draw, failures) => {
        random.mockReturnValue(draw);
        expect(stockDelayMs(failures, () => draw)).toBe(manager.backoff.duration());
      });
      random.mockRestore();
    }),
  );
});
