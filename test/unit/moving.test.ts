/** Which connection owns a session, where a session is sent, and how the end of each session is counted. */
import { afterEach, beforeEach, describe, expect, type Mock, test, vi } from "vitest";
import type { FleetNode } from "../../shared/nodes/contract.ts";
import { destinationPicker } from "../../gateway/moving/destination.ts";
import { DrainProgress, outcomeOf } from "../../gateway/moving/drain-progress.ts";
import { Succession } from "../../gateway/sessions/succession.ts";
import { bareSession } from "../support/bare-session.ts";
import { nodeReport } from "../support/node-reports.ts";

describe("which connection owns a session", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function succession(): { succession: Succession; onMoved: Mock<() => void>; replaced: () => boolean[] } {
    const onMoved = vi.fn<() => void>();
    const onReplaced = vi.fn<(stayed: boolean) => void>();
    const replaced = (): boolean[] => onReplaced.mock.calls.map(([stayed]) => stayed);
    return { succession: new Succession({ sessionId: "s", onMoved, onReplaced }), onMoved, replaced };
  }
  const held = (claim: number): { sessionId: string; claim: number; checkedAt: number } => ({
    sessionId: "s",
    claim,
    checkedAt: 1,
  });

  test("MOVE-3: an asked session is served beside its newer claim until the deadline, then it ends", () => {
    const { succession: old, replaced } = succession();
    old.applyClaim(held(10), { tookOver: false });
    old.mayStayFor(5_000);
    expect([old.moved, old.takesUserMessages]).toEqual([false, true]);
    vi.advanceTimersByTime(1_000);
    old.noticeClaim(11);
    expect([old.moved, old.takesUserMessages, replaced()]).toEqual([true, false, []]);
    old.noticeClaim(12);
    vi.advanceTimersByTime(3_990);
    expect([old.moved, replaced()]).toEqual([true, []]);
    vi.advanceTimersByTime(20);
    expect([old.moved, old.takesUserMessages, replaced()]).toEqual([false, false, [true]]);
    old.end();
  });

  test("MOVE-3: a session that was not asked, or is past its deadline, is replaced at once", () => {
    for (const askedForMs of [undefined, 1_000]) {
      const { succession: old, replaced } = succession();
      old.applyClaim(held(10), { tookOver: false });
      if (askedForMs !== undefined) old.mayStayFor(askedForMs);
      vi.advanceTimersByTime(2_000);
      old.noticeClaim(11);
      expect([old.moved, replaced()]).toEqual([false, [false]]);
    }
  });

  test("MOVE-4: user messages reach the older connection until both know the newer claim", () => {
    const [older, newer] = [succession().succession, succession().succession];
    older.applyClaim(held(10), { tookOver: false });
    older.mayStayFor(5_000);
    const takers = (): boolean[] => [older.takesUserMessages, newer.takesUserMessages];
    newer.expectClaim();
    expect(takers()).toEqual([true, false]);
    newer.applyClaim(held(11), { tookOver: true });
    expect(takers()).toEqual([true, false]);
    for (const each of [older, newer]) each.noticeClaim(11);
    expect(takers()).toEqual([false, true]);
    older.end();
  });

  test("MOVE-4: a connection that stays gets one notice that no message to the user follows on it", () => {
    const [stays, leaves] = [succession(), succession()];
    for (const { succession: each } of [stays, leaves]) each.applyClaim(held(10), { tookOver: false });
    stays.succession.mayStayFor(5_000);
    for (const { succession: each } of [stays, leaves]) each.noticeClaim(11);
    expect([stays.onMoved, leaves.onMoved].map(({ mock }) => mock.calls.length)).toEqual([1, 0]);
    stays.succession.noticeClaim(12);
    stays.succession.mayStayFor(1_000);
    expect(stays.onMoved).toHaveBeenCalledTimes(1);
    stays.succession.end();
  });

  test("MOVE-4: news of an earlier claim does not make a connection receive user messages", () => {
    const { succession: newer } = succession();
    newer.applyClaim(held(11), { tookOver: true });
    newer.noticeClaim(10);
    expect(newer.takesUserMessages).toBe(false);
    newer.noticeClaim(11);
    expect(newer.takesUserMessages).toBe(true);
  });

  test("MOVE-4: news of a claim may arrive before its answer, or never; a free session waits for none", () => {
    const [early, deaf, alone] = [succession().succession, succession().succession, succession().succession];
    for (const each of [early, deaf, alone]) each.expectClaim();
    early.noticeClaim(11);
    expect(early.takesUserMessages).toBe(true);
    early.applyClaim(held(11), { tookOver: true });
    deaf.applyClaim(held(11), { tookOver: true });
    alone.applyClaim(held(11), { tookOver: false });
    expect([early, deaf, alone].map(({ takesUserMessages }) => takesUserMessages)).toEqual([true, false, true]);
    vi.advanceTimersByTime(1_000);
    expect(deaf.takesUserMessages).toBe(true);
  });
});

test("MOVE-1: a client that leaves its old connection after moving is not shown as leaving", () => {
  const [moved, left] = [bareSession("s"), bareSession("s")];
  for (const session of [moved, left]) {
    session.applyClaim({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
    session.askToMove({ reconnectInMs: 0, deadlineInMs: 60_000 });
  }
  moved.succession.noticeClaim(11);
  for (const session of [moved, left]) session.leave();
  expect([moved.mayReturn, left.mayReturn]).toEqual([true, false]);
  for (const session of [moved, left]) session.dispose();
});

describe("progress of a drain", () => {
  test("DRAIN-6: each session is counted once, by how it ended", () => {
    const stock = { moves: false, asked: true, overdue: false };
    const mover = { moves: true, asked: true, overdue: false };
    const ended = { kind: "ended", code: "draining", taken: true } as const;
    const cases = [
      outcomeOf({ kind: "moved" }, mover),
      outcomeOf({ kind: "left" }, mover),
      outcomeOf({ ...ended, code: "replaced" }, mover),
      outcomeOf(ended, stock),
      outcomeOf({ ...ended, taken: false }, stock),
      outcomeOf({ kind: "broke" }, stock),
      outcomeOf(ended, { ...mover, overdue: true }),
      outcomeOf({ ...ended, taken: false }, { ...mover, overdue: true }),
      outcomeOf({ kind: "left" }, stock),
      outcomeOf({ kind: "left" }, { ...mover, asked: false }),
      outcomeOf({ ...ended, code: "token_expired" }, stock),
    ];
    expect(cases).toEqual([
      ...["moved", "moved", "moved"],
      ...["closed", "lost", "lost", "forced", "forced"],
      ...["left", "left", "left"],
    ]);
  });

  test("DRAIN-6: a session whose end is unknown counts as lost", async () => {
    const gone: string[] = [];
    const progress = new DrainProgress((outcome) => gone.push(outcome));
    const sessions = ["a", "b"].map((id) => bareSession(id));
    for (const session of sessions)
      session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
    progress.begin();
    progress.track([...sessions, bareSession("a handshake under way")]);
    progress.track(sessions);
    sessions[0]?.leave();
    sessions[0]?.dispose();
    progress.end();
    expect(progress.report).toMatchObject({ sessions: 2, left: 1, lost: 1, moved: 0, closed: 0, forced: 0 });
    expect(progress.report?.endedAt).toEqual(expect.any(Number));
    expect(gone).toEqual(["left", "lost"]);
    sessions[1]?.dispose();
    expect(gone).toHaveLength(2);
  });

  test("DRAIN-6: DRAIN-9: a session that only a drain that was called off had asked to move has left, not moved", () => {
    const progress = new DrainProgress(() => undefined);
    const session = bareSession("s", "ada", { moves: true });
    session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
    progress.begin();
    progress.track([session]);
    progress.markAsked(session);
    progress.callOff();
    progress.begin();
    progress.track([session]);
    session.leave();
    session.dispose();
    expect(progress.report).toMatchObject({ sessions: 1, moved: 0, left: 1 });
  });
});

test("MOVE-5: a session is sent to the emptier of two random nodes, where nodes have own addresses", () => {
  const node = (at: number, more: Partial<FleetNode> = {}): FleetNode => ({
    ...nodeReport({ node: `node-${at}`, instance: `instance-${at}` }),
    sharePerSecond: 1,
    url: `http://node-${at}`,
    factor: at / 10,
    ...more,
  });
  const others = [node(1), node(2), node(3)];
  const picks =
    (...values: number[]): (() => number) =>
    () =>
      values.shift() ?? 0;
  expect(destinationPicker(others, "http://node-0", picks(0.9, 0.5))()).toBe("http://node-2");
  expect(destinationPicker(others, "http://node-0", picks(0.1, 0.9))()).toBe("http://node-1");
  expect(destinationPicker(others, undefined, picks())()).toBeUndefined();
  expect(destinationPicker(others, "http://node-1", picks())()).toBeUndefined();
  expect(destinationPicker([node(1), node(2, { url: "http://node-1" })], "http://node-0", picks())()).toBeUndefined();
  const { url: _url, ...balanced } = node(1);
  expect(destinationPicker([balanced], undefined, picks())()).toBeUndefined();
  expect(destinationPicker([], "http://node-0", picks())()).toBeUndefined();
});
