/** Which connection a session goes on with, where it is sent, and what is said of how it went. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { FleetNode } from "../../shared/nodes/contract.ts";
import { Departures, outcomeOf } from "../../gateway/moving/departures.ts";
import { destinationsAmong } from "../../gateway/moving/destination.ts";
import { Succession } from "../../gateway/sessions/succession.ts";
import { bareSession } from "../support/bare-session.ts";
import { nodeReport } from "../support/node-reports.ts";

describe("who has a session", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function succession(): { succession: Succession; replaced: () => boolean[] } {
    const onReplaced = vi.fn<(stayed: boolean) => void>();
    const replaced = (): boolean[] => onReplaced.mock.calls.map(([stayed]) => stayed);
    return { succession: new Succession({ sessionId: "s", onReplaced }), replaced };
  }
  const held = (claim: number): { sessionId: string; claim: number; checkedAt: number } => ({
    sessionId: "s",
    claim,
    checkedAt: 1,
  });

  test("MOVE-3: a session that was asked to move is served beside its newer claim until the deadline, then it ends as one that stayed", () => {
    const { succession: old, replaced } = succession();
    old.hold(held(10), { tookOver: false });
    old.mayStayFor(5_000);
    expect([old.moved, old.takesUserMessages]).toEqual([false, true]);
    vi.advanceTimersByTime(1_000);
    old.hearOf(11);
    expect([old.moved, old.takesUserMessages, replaced()]).toEqual([true, false, []]);
    old.hearOf(12);
    vi.advanceTimersByTime(3_990);
    expect([old.moved, replaced()]).toEqual([true, []]);
    vi.advanceTimersByTime(20);
    expect([old.moved, old.takesUserMessages, replaced()]).toEqual([false, false, [true]]);
    old.end();
  });

  test("MOVE-3: one that was not asked to move, or whose time was up before, is replaced at once", () => {
    for (const askedForMs of [undefined, 1_000]) {
      const { succession: old, replaced } = succession();
      old.hold(held(10), { tookOver: false });
      if (askedForMs !== undefined) old.mayStayFor(askedForMs);
      vi.advanceTimersByTime(2_000);
      old.hearOf(11);
      expect([old.moved, replaced()]).toEqual([false, [false]]);
    }
  });

  test("MOVE-4: messages to the user go to the older connection until both hear of the newer claim, then to the newer", () => {
    const [older, newer] = [succession().succession, succession().succession];
    older.hold(held(10), { tookOver: false });
    older.mayStayFor(5_000);
    const takers = (): boolean[] => [older.takesUserMessages, newer.takesUserMessages];
    newer.expect();
    expect(takers()).toEqual([true, false]);
    newer.hold(held(11), { tookOver: true });
    expect(takers()).toEqual([true, false]);
    for (const each of [older, newer]) each.hearOf(11);
    expect(takers()).toEqual([false, true]);
    older.end();
  });

  test("MOVE-4: what is told of the claim before its own does not make it the one that messages reach", () => {
    const { succession: newer } = succession();
    newer.hold(held(11), { tookOver: true });
    newer.hearOf(10);
    expect(newer.takesUserMessages).toBe(false);
    newer.hearOf(11);
    expect(newer.takesUserMessages).toBe(true);
  });

  test("MOVE-4: what is told of its claim may come before its own answer does, or never; where nobody had the session nothing is waited for", () => {
    const [early, deaf, alone] = [succession().succession, succession().succession, succession().succession];
    for (const each of [early, deaf, alone]) each.expect();
    early.hearOf(11);
    expect(early.takesUserMessages).toBe(true);
    early.hold(held(11), { tookOver: true });
    deaf.hold(held(11), { tookOver: true });
    alone.hold(held(11), { tookOver: false });
    expect([early, deaf, alone].map(({ takesUserMessages }) => takesUserMessages)).toEqual([true, false, true]);
    vi.advanceTimersByTime(1_000);
    expect(deaf.takesUserMessages).toBe(true);
  });
});

test("MOVE-1: whoever leaves the old connection before it has subscribed on the new one is expected back: nobody sees it leave", () => {
  const [moved, left] = [bareSession("s"), bareSession("s")];
  for (const session of [moved, left]) {
    session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
    session.askToMove({ reconnectInMs: 0, deadlineInMs: 60_000 });
  }
  moved.hearOf(11);
  for (const session of [moved, left]) session.leave();
  expect([moved.mayReturn, left.mayReturn]).toEqual([true, false]);
  for (const session of [moved, left]) session.dispose();
});

describe("what is said of a drain", () => {
  test("DRAIN-6: each session is counted once, by how it ended", () => {
    const stock = { moves: false, asked: true, overdue: false };
    const mover = { moves: true, asked: true, overdue: false };
    const told = { kind: "ended", code: "draining", told: true } as const;
    const cases = [
      outcomeOf({ kind: "moved" }, mover),
      outcomeOf({ kind: "left" }, mover),
      outcomeOf({ ...told, code: "replaced" }, mover),
      outcomeOf(told, stock),
      outcomeOf({ ...told, told: false }, stock),
      outcomeOf({ kind: "broke" }, stock),
      outcomeOf(told, { ...mover, overdue: true }),
      outcomeOf({ ...told, told: false }, { ...mover, overdue: true }),
      outcomeOf({ kind: "left" }, stock),
      outcomeOf({ kind: "left" }, { ...mover, asked: false }),
      outcomeOf({ ...told, code: "token_expired" }, stock),
    ];
    expect(cases).toEqual([
      ...["moved", "moved", "moved"],
      ...["closed", "lost", "lost", "forced", "forced"],
      ...["left", "left", "left"],
    ]);
  });

  test("DRAIN-6: who has not been heard to be gone is lost, and counted as well", async () => {
    const gone: string[] = [];
    const departures = new Departures((outcome) => gone.push(outcome));
    const sessions = ["a", "b"].map((id) => bareSession(id));
    for (const session of sessions)
      session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
    departures.follow([...sessions, bareSession("a handshake under way")]);
    departures.follow(sessions);
    sessions[0]?.leave();
    sessions[0]?.dispose();
    departures.end();
    expect(departures.report).toMatchObject({ sessions: 2, left: 1, lost: 1, moved: 0, closed: 0, forced: 0 });
    expect(departures.report.endedAt).toEqual(expect.any(Number));
    expect(gone).toEqual(["left", "lost"]);
    sessions[1]?.dispose();
    expect(gone).toHaveLength(2);
  });
});

test("MOVE-5: where nodes have addresses of their own a session is sent to one of two at random, the emptier; else to none", () => {
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
  expect(destinationsAmong(others, "http://node-0", picks(0.9, 0.5))()).toBe("http://node-2");
  expect(destinationsAmong(others, "http://node-0", picks(0.1, 0.9))()).toBe("http://node-1");
  expect(destinationsAmong(others, undefined, picks())()).toBeUndefined();
  expect(destinationsAmong(others, "http://node-1", picks())()).toBeUndefined();
  expect(destinationsAmong([node(1), node(2, { url: "http://node-1" })], "http://node-0", picks())()).toBeUndefined();
  const { url: _url, ...balanced } = node(1);
  expect(destinationsAmong([balanced], undefined, picks())()).toBeUndefined();
  expect(destinationsAmong([], "http://node-0", picks())()).toBeUndefined();
});
