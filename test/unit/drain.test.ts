/** Drains with sessions that connect late or do not leave, and with nodes that come and go. */
import { expect, onTestFinished, test, vi } from "vitest";
import { FleetMember } from "../../gateway/fleet/fleet-member.ts";
import { Drain } from "../../gateway/moving/drain.ts";
import { DrainProgress } from "../../gateway/moving/drain-progress.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import type { NodeReport } from "../../shared/nodes/contract.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";

const budget = { budgetPerSecond: 1_000, heldPerSecond: 0 };

/** Welcomes the session's client. */
function welcome(session: Session): void {
  session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
}

interface Situation {
  sessions: Session[];
  drainMs: number;
  /** Other nodes of the fleet. */
  others: readonly NodeReport[];
  own?: Partial<NodeReport>;
  /** Runs when the door closes. */
  refuse?: () => void;
  /** Runs when the drain is called off. */
  accept?: () => void;
  receives?: boolean;
}

interface Draining {
  drain: Drain;
  progress: DrainProgress;
  registry: MemoryNodeRegistry;
  fleet: FleetMember;
}

async function drainOf(given: Situation): Promise<Draining> {
  const registry = new MemoryNodeRegistry();
  for (const other of given.others) await registry.report(other, budget);
  const report = nodeReport({ state: "draining", admissionWeight: 0, ...given.own });
  const fleet = new FleetMember({
    registry,
    instance: report.instance,
    ...budget,
    errors: quietErrors,
    logger: quietLogger,
  });
  fleet.describeBy(() => report);
  await fleet.report();
  const progress = new DrainProgress(() => undefined);
  const drain = new Drain({
    sessions: () => given.sessions,
    refuse: given.refuse ?? (() => undefined),
    accept: given.accept ?? (() => undefined),
    receives: () => given.receives ?? false,
    fleet,
    url: undefined,
    drainMs: given.drainMs,
    progress,
    metrics: { movesAsked: new Metrics().counter("moves_asked_total", "asked", ["cause"]) },
    logger: quietLogger,
  });
  return { drain, progress, registry, fleet };
}

/** One turn of the event loop. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test("DRAIN-6: a session with an earlier order to move, and a later deadline, ends with the drain", async () => {
  const session = bareSession("s");
  session.applyClaim({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: false, tookOver: false });
  welcome(session);
  session.askToMove({ reconnectInMs: 0, deadlineInMs: 60_000 });
  session.succession.noticeClaim(11);
  const { drain, progress } = await drainOf({ sessions: [session], drainMs: 200, others: [nodeReport()] });
  await drain.stop();
  expect(progress.report).toMatchObject({ sessions: 1, moved: 0, lost: 0, forced: 1 });
  expect(session.endedBy).toBe("draining");
});

test.each([0, 1])(
  "DRAIN-6: a session admitted while the door closes is counted, with %d other nodes",
  async (others) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const session = bareSession("s");
    const { drain, progress } = await drainOf({
      sessions: [session],
      drainMs: 60_000,
      others: Array.from({ length: others }, () => nodeReport()),
      refuse: () => process.nextTick(() => welcome(session)),
    });
    const stopped = drain.stop();
    await turn();
    await vi.advanceTimersByTimeAsync(60_000);
    await stopped;
    expect(progress.report).toMatchObject({ sessions: 1, closed: 1 });
  },
);

test("DRAIN-2: when the other nodes disappear, no session waits for its move time", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const session = bareSession("s", "ada", { moves: true });
  welcome(session);
  const other = nodeReport();
  const { drain, progress, registry, fleet } = await drainOf({ sessions: [session], drainMs: 60_000, others: [other] });
  const stopped = drain.stop();
  await turn();
  await vi.advanceTimersByTimeAsync(6_000);
  await registry.leave(other.instance);
  await fleet.report();
  expect(session.endedBy).toBeUndefined();
  await vi.advanceTimersByTimeAsync(3_200);
  expect(session.endedBy).toBe("draining");
  await stopped;
  expect(progress.report).toMatchObject({ sessions: 1, closed: 1 });
});

test("DRAIN-9: clients that were asked to move are asked to stay when the drain is called off", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const [asked, leaving] = ["s1", "s2"].map((id) => bareSession(id, "ada", { moves: true }));
  if (!asked || !leaving) throw new Error("two sessions");
  const [stay, leave] = [vi.spyOn(asked, "askToStay"), vi.spyOn(leaving, "askToStay")];
  for (const session of [asked, leaving]) welcome(session);
  leaving.applyClaim({ sessionId: "s2", claim: 10, checkedAt: 1 }, { resumed: false, tookOver: false });
  const accept = vi.fn<() => void>();
  const sessions = [asked, leaving];
  const own = { node: "own" };
  const { drain, progress, registry, fleet } = await drainOf({
    ...{ sessions, drainMs: 60_000, others: [nodeReport()], accept, own },
  });
  await drain.start();
  await registry.order("own", "drain");
  await fleet.report();
  await turn();
  await vi.advanceTimersByTimeAsync(5_100);
  // Its client has begun to move.
  leaving.succession.noticeClaim(11);
  expect(leaving.moved).toBe(true);
  await registry.order("own", "undrain");
  await fleet.report();
  expect([stay.mock.calls.length, leave.mock.calls.length, accept.mock.calls.length]).toEqual([1, 0, 1]);
  expect(progress.report).toBeUndefined();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([asked.endedBy, accept.mock.calls.length]).toEqual([undefined, 1]);
  for (const session of sessions) session.dispose();
});

test.each([0, 1])("DRAIN-9: a session that waits for answers stays at an undrain, %d other nodes", async (others) => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const session = bareSession("s");
  welcome(session);
  const answered = session.requests.begin();
  const closing = vi.spyOn(session.requests, "whenNone");
  const { drain, registry, fleet } = await drainOf({
    ...{ sessions: [session], drainMs: 60_000, own: { node: "own" } },
    others: Array.from({ length: others }, () => nodeReport()),
  });
  await drain.start();
  await registry.order("own", "drain");
  await fleet.report();
  await turn();
  await vi.advanceTimersByTimeAsync(8_000);
  expect([closing.mock.calls.length, session.endedBy]).toEqual([1, undefined]);
  await registry.order("own", "undrain");
  await fleet.report();
  await vi.advanceTimersByTimeAsync(60_000);
  answered();
  expect(session.endedBy).toBeUndefined();
  session.dispose();
});

test("EDGE-8: a node with webhooks and without sessions ends once the balancer has had its time", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const ended = async (given: { receives: boolean; others: readonly NodeReport[] }): Promise<() => boolean> => {
    const { drain } = await drainOf({ sessions: [], drainMs: 60_000, ...given });
    let isOver = false;
    void drain.stop().then(() => (isOver = true));
    await turn();
    await vi.advanceTimersByTimeAsync(0);
    await turn();
    return () => isOver;
  };
  const [receiving, alone, other] = [
    await ended({ receives: true, others: [nodeReport()] }),
    await ended({ receives: true, others: [] }),
    await ended({ receives: false, others: [nodeReport()] }),
  ];
  await vi.advanceTimersByTimeAsync(4_900);
  expect([receiving(), alone(), other()]).toEqual([false, true, true]);
  await vi.advanceTimersByTimeAsync(200);
  await turn();
  expect(receiving()).toBe(true);
});

test("DRAIN-4: with another draining node the moves of each take longer", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const sessions = Array.from({ length: 1_000 }, (_, at) => bareSession(`s${at}`, "ada", { moves: true }));
  onTestFinished(() => {
    for (const session of sessions) session.dispose();
  });
  for (const session of sessions) welcome(session);
  const moveTimes: number[] = [];
  for (const session of sessions) session.askToMove = ({ reconnectInMs }) => void moveTimes.push(reconnectInMs);
  const ready = nodeReport();
  const leaving = nodeReport({ state: "draining", admissionWeight: 0, connections: 3_000 });
  const { drain, registry } = await drainOf({
    sessions,
    drainMs: 60_000,
    others: [ready, leaving],
    own: { connections: 1_000 },
  });
  // It has 900 of 1,000 a second; a quarter of 0.7 of them is for this node's sessions.
  await registry.report(ready, budget);
  const stopped = drain.stop();
  await turn();
  await vi.advanceTimersByTimeAsync(5_100);
  for (let turns = 0; turns < 3; turns++) await turn();
  expect(moveTimes).toHaveLength(1_000);
  expect(Math.max(...moveTimes)).toBeGreaterThan(6_000);
  expect(Math.max(...moveTimes)).toBeLessThan(6_500);
  for (const session of sessions) session.dispose();
  await vi.advanceTimersByTimeAsync(100);
  await stopped;
});

test("CON-9: without another node clients spread their reconnects over the admission rate", async () => {
  const sessions = Array.from({ length: 1_400 }, (_, at) => bareSession(`s${at}`));
  const times: number[] = [];
  for (const session of sessions) {
    welcome(session);
    const { end } = session;
    session.end = (code, reason, options) => {
      times.push(options.retryAfterMs ?? -1);
      end.call(session, code, reason, options);
    };
  }
  const { drain } = await drainOf({ sessions, drainMs: 200, others: [] });
  await drain.stop();
  expect(times).toHaveLength(1_400);
  expect(Math.min(...times)).toBeGreaterThanOrEqual(0);
  // 1,400 at 0.7 of 1,000 a second.
  expect(Math.max(...times)).toBeLessThanOrEqual(2_000);
  expect(Math.max(...times)).toBeGreaterThan(1_500);
});
