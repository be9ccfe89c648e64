/** Which sessions a running node asks to move. */
import { onTestFinished, expect, test, vi } from "vitest";
import { FleetMember } from "../../gateway/fleet/fleet-member.ts";
import { Rebalancer } from "../../gateway/moving/rebalancer.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";

test("REB-2: a session that was asked to move is not asked again for 10 minutes, on any connection", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const report = nodeReport();
  const registry = new MemoryNodeRegistry();
  const fleet = new FleetMember({
    registry,
    instance: report.instance,
    budgetPerSecond: 1_000,
    errors: quietErrors,
    logger: quietLogger,
  });
  fleet.describeBy(() => report);
  await fleet.report();
  const asked: number[] = [];
  const connect = (): ReturnType<typeof bareSession> => {
    const session = bareSession("s", "ada", { moves: true });
    session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
    session.askToMove = () => void asked.push(performance.now());
    onTestFinished(() => session.dispose());
    return session;
  };
  let session = connect();
  const rebalancer = new Rebalancer({
    sessions: () => (session.disposed ? [] : [session]),
    accepting: () => true,
    instance: report.instance,
    fleet,
    url: undefined,
    errors: quietErrors,
    lifetimeMs: 1_000,
    metrics: { movesAsked: new Metrics().counter("moves_asked_total", "asked", ["cause"]) },
  });
  await rebalancer.start();
  onTestFinished(() => rebalancer.stop());
  vi.advanceTimersByTime(2_000);
  expect(asked).toHaveLength(1);
  session.dispose();
  session = connect();
  vi.advanceTimersByTime(597_000);
  expect(asked).toHaveLength(1);
  vi.advanceTimersByTime(3_000);
  expect(asked).toHaveLength(2);
});

test("REB-1: after a pause a node asks no more sessions than in two seconds", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const report = nodeReport({ connections: 1_000 });
  const registry = new MemoryNodeRegistry();
  const empty = nodeReport({ node: "empty", instance: "empty", connections: 0 });
  const share = { budgetPerSecond: 100, heldPerSecond: undefined };
  const fleet = new FleetMember({
    registry,
    instance: report.instance,
    budgetPerSecond: 100,
    errors: quietErrors,
    logger: quietLogger,
  });
  fleet.describeBy(() => report);
  let asked = 0;
  const sessions = Array.from({ length: 1_000 }, (_, n) => {
    const session = bareSession(`s${n}`, "ada", { moves: true });
    session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
    session.askToMove = () => void asked++;
    onTestFinished(() => session.dispose());
    return session;
  });
  const rebalancer = new Rebalancer({
    sessions: () => sessions,
    accepting: () => true,
    instance: report.instance,
    fleet,
    url: undefined,
    errors: quietErrors,
    lifetimeMs: 0,
    metrics: { movesAsked: new Metrics().counter("moves_asked_total", "asked", ["cause"]) },
  });
  await rebalancer.start();
  onTestFinished(() => rebalancer.stop());
  const reportAfter = async (ms: number): Promise<number> => {
    vi.advanceTimersByTime(ms);
    const before = asked;
    await registry.report(empty, share);
    await fleet.report();
    return asked - before;
  };
  // A tenth of the fleet's admissions.
  expect(await reportAfter(1_000)).toBe(10);
  expect(await reportAfter(60_000)).toBe(20);
});
