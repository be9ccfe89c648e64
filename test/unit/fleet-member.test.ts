import { expect, onTestFinished, test, vi } from "vitest";
import { FleetMember } from "../../gateway/fleet/fleet-member.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { NodeRegistry, NodeReport, ReportAnswer, ShareRequest } from "../../shared/nodes/contract.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";

/** A registry with answers from the test. */
class AskedRegistry implements NodeRegistry {
  readonly reports: { report: NodeReport; request: ShareRequest }[] = [];
  readonly left: string[] = [];
  answer: () => Promise<number> = async () => 0;

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  async report(report: NodeReport, request: ShareRequest): Promise<ReportAnswer> {
    this.reports.push({ report, request });
    return { sharePerSecond: await this.answer(), order: undefined, nodes: [{ ...report, sharePerSecond: 0 }] };
  }
  async leave(instance: string): Promise<void> {
    this.left.push(instance);
  }
  async nodes(): Promise<[]> {
    return [];
  }
  async order(): Promise<number> {
    return 0;
  }
}

function member(describe: () => NodeReport): { registry: AskedRegistry; fleet: FleetMember } {
  const registry = new AskedRegistry();
  const fleet = new FleetMember({
    registry,
    instance: describe().instance,
    budgetPerSecond: 1_000,
    errors: quietErrors,
    logger: quietLogger,
  });
  fleet.describeBy(describe);
  onTestFinished(() => fleet.stop());
  return { registry, fleet };
}

async function away(): Promise<never> {
  throw new TidegateError("broker_unavailable", "away");
}

test("NODE-6: without a registry a node uses a hundredth of the budget, or the share it last had", async () => {
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  expect(fleet.sharePerSecond).toBe(0);
  registry.answer = away;
  await fleet.start();
  expect(fleet.sharePerSecond).toBe(10);
  registry.answer = async () => 300;
  await fleet.report();
  expect(registry.reports.map(({ request }) => request.heldPerSecond)).toEqual([undefined, 10]);
  registry.answer = away;
  await fleet.report();
  expect(fleet.sharePerSecond).toBe(300);
  expect(fleet.nodes).toHaveLength(1);
});

test("NODE-6: a node suspended for 5 s has no share until it asks; without a registry it keeps its own", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  registry.answer = async () => 300;
  await fleet.report();
  vi.advanceTimersByTime(4_990);
  expect(fleet.sharePerSecond).toBe(300);
  vi.advanceTimersByTime(20);
  expect(fleet.sharePerSecond).toBe(0);
  await fleet.report();
  expect(fleet.sharePerSecond).toBe(300);
  expect(registry.reports.at(-1)?.request.heldPerSecond).toBe(0);
  vi.advanceTimersByTime(6_000);
  registry.answer = away;
  await fleet.report();
  expect(fleet.sharePerSecond).toBe(300);
});

test("NODE-2: a node that stops admits no connection and reports no more", async () => {
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  registry.answer = async () => 300;
  await fleet.start();
  await fleet.stop();
  expect(fleet.sharePerSecond).toBe(0);
  expect(registry.left).toEqual([described.instance]);
  await fleet.report();
  expect(registry.reports).toHaveLength(1);
});

test("NODE-1: a change during a report is reported by another one right after it", async () => {
  let state: NodeReport["state"] = "ready";
  const { registry, fleet } = member(() => nodeReport({ state }));
  const { promise, resolve } = Promise.withResolvers<number>();
  registry.answer = () => promise;
  const first = fleet.report();
  state = "draining";
  const told = Promise.all([fleet.report(), fleet.report()]);
  expect(registry.reports).toHaveLength(1);
  resolve(1);
  await Promise.all([first, told]);
  expect(registry.reports.map(({ report }) => report.state)).toEqual(["ready", "draining"]);
});

test("NODE-2: while shares are moving a node reports more often", async () => {
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  registry.answer = async () => 900;
  await fleet.start();
  await vi.advanceTimersByTimeAsync(1_250);
  const quiet = registry.reports.length;
  registry.answer = async () => 450;
  await fleet.report();
  // The next report was due within 1,250 ms. At the usual pace there are five at most.
  await vi.advanceTimersByTimeAsync(3_000);
  expect(registry.reports.length - quiet).toBeGreaterThan(6);
});

test("CONT-2: a listener that throws affects neither other listeners nor the next report", async () => {
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  registry.answer = async () => 300;
  const before = quietErrors.counts.timer;
  let heard = 0;
  fleet.onReport(() => {
    throw new Error("a bug");
  });
  fleet.onReport(() => void heard++);
  await fleet.start();
  await fleet.report();
  expect([heard, registry.reports.length, quietErrors.counts.timer - before]).toEqual([2, 2, 2]);
});

test("CONT-2: a report that fails unexpectedly ends no process, no drain and no later report", async () => {
  const described = nodeReport();
  const { registry, fleet } = member(() => described);
  const before = quietErrors.counts.store;
  registry.answer = async () => {
    throw new TypeError("a bug");
  };
  await Promise.all([fleet.report(), fleet.report()]);
  expect([registry.reports.length, quietErrors.counts.store - before]).toEqual([2, 2]);
  registry.answer = async () => 300;
  await Promise.all([fleet.report(), fleet.report()]);
  expect([registry.reports.length, fleet.sharePerSecond]).toEqual([4, 300]);
});
