/** What a drain makes of sessions that are not there, or not gone, when others are. */
import { expect, test } from "vitest";
import { FleetMember } from "../../gateway/fleet/fleet-member.ts";
import { Drain } from "../../gateway/moving/drain.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import { Metrics } from "../../shared/metrics.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory-registry.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";

const budget = { budgetPerSecond: 1_000, heldPerSecond: 0 };

/** Begins a session, as far as its client knows. */
function welcome(session: Session): void {
  session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
}

/** @param options.others nodes beside this one. `refuse`: what happens at the moment when the door is closed. */
async function drainOf(sessions: Session[], options: { others: number; refuse?: () => void }): Promise<Drain> {
  const registry = new MemoryNodeRegistry();
  for (let other = 0; other < options.others; other++) await registry.report(nodeReport(), budget);
  const report = nodeReport();
  const fleet = new FleetMember({ registry, describe: () => report, budgetPerSecond: 1_000, logger: quietLogger });
  await fleet.report();
  const metrics = new Metrics();
  return new Drain({
    sessions: () => sessions,
    refuse: options.refuse ?? (() => undefined),
    fleet,
    url: undefined,
    drainMs: 200,
    metrics: {
      movesAsked: metrics.counter("moves_asked_total", "asked", ["cause"]),
      drainedSessions: metrics.counter("drained_sessions_total", "drained", ["outcome"]),
    },
    logger: quietLogger,
  });
}

test("DRAIN-6: who moved by an order of before, and may stay for longer than the drain lasts, has moved", async () => {
  const session = bareSession("s");
  session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: false, tookOver: false });
  welcome(session);
  session.askToMove({ reconnectInMs: 0, deadlineInMs: 60_000 });
  session.hearOf(11);
  const drain = await drainOf([session], { others: 1 });
  await drain.stop();
  expect(drain.report).toMatchObject({ sessions: 1, moved: 1, lost: 0, forced: 0 });
  expect(session.endedBy).toBe("replaced");
});

test.each([0, 1])(
  "DRAIN-6: who was let in at the moment when the door closed is counted, beside %d other nodes",
  async (others) => {
    const session = bareSession("s");
    const drain = await drainOf([session], { others, refuse: () => process.nextTick(() => welcome(session)) });
    await drain.stop();
    expect(drain.report).toMatchObject({ sessions: 1, closed: 1 });
  },
);
