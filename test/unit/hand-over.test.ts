/** Whom a node asks to go on elsewhere while it goes on itself. */
import { onTestFinished, expect, test, vi } from "vitest";
import { FleetMember } from "../../gateway/fleet/fleet-member.ts";
import { HandOver } from "../../gateway/moving/hand-over.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";

test("REB-2: who was asked is not asked again for 10 min, by whatever connection it goes on", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const report = nodeReport();
  const registry = new MemoryNodeRegistry();
  const fleet = new FleetMember({
    registry,
    describe: () => report,
    budgetPerSecond: 1_000,
    errors: quietErrors,
    logger: quietLogger,
  });
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
  const handOver = new HandOver({
    sessions: () => (session.disposed ? [] : [session]),
    accepting: () => true,
    instance: report.instance,
    fleet,
    url: undefined,
    errors: quietErrors,
    lifetimeMs: 1_000,
    metrics: { movesAsked: new Metrics().counter("moves_asked_total", "asked", ["cause"]) },
  });
  await handOver.start();
  onTestFinished(() => handOver.stop());
  vi.advanceTimersByTime(2_000);
  expect(asked).toHaveLength(1);
  session.dispose();
  session = connect();
  vi.advanceTimersByTime(597_000);
  expect(asked).toHaveLength(1);
  vi.advanceTimersByTime(3_000);
  expect(asked).toHaveLength(2);
});
