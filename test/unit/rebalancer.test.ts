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
