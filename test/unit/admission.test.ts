/** Admission by the share of a node, and the policy for reconnects. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Admission, type AdmissionShare, type Decision } from "../../gateway/entrance/admission.ts";
import { RecentCount } from "../../gateway/entrance/recent-count.ts";
import { reconnectPolicy } from "../../gateway/entrance/reconnect-window.ts";
import { CurrentReconnectPolicy } from "../../gateway/entrance/current-reconnect-policy.ts";
import type { AdmissionKind } from "../../gateway/entrance/admission-queue.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors } from "../support/logger.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout", "setImmediate", "clearImmediate"] });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

class Share implements AdmissionShare {
  sharePerSecond = 10;
  fairSharePerSecond = 0;
  budgetPerSecond = 10;
  nodes = [];
  asked = 0;
  report(): Promise<void> {
    this.asked++;
    return Promise.resolve();
  }
}

/** A node with this share, and handshakes that enter its queue. */

function node(sharePerSecond = 10): {
  share: Share;
  admission: Admission;
  enter: (kind: AdmissionKind) => { decision: Decision | undefined; leave: () => void };
} {
  const share = Object.assign(new Share(), { sharePerSecond });
  const metrics = new Metrics();
  const admitted = metrics.counter("admitted", "test", ["kind"]);
  const admission = new Admission({ share, admitted, waitSeconds: metrics.histogram("wait", "test", ["kind"]) });
  admission.onShare();
  return {
    share,
    admission,
    enter: (kind) => {
      const handshake: { decision: Decision | undefined; leave: () => void } = {
        decision: undefined,
        leave: () => undefined,
      };
      handshake.leave = admission.enter(
        { kind, address: anAddress, deadline: performance.now() + 5_000 },
        (decision) => {
          expect(handshake.decision).toBeUndefined();
          handshake.decision = decision;
        },
      );
      return handshake;
    },
  };
}

const anAddress = "192.0.2.1";

const admitted = { kind: "admitted" };

const count = (all: { decision: Decision | undefined }[], kind: Decision["kind"] | undefined): number =>
  all.filter(({ decision }) => decision?.kind === kind).length;

test("ADM-2: handshakes queue for at most 5 s; one that would exceed it is refused up front", () => {
  const { admission, enter } = node(10);
  const all = Array.from({ length: 80 }, () => enter("cold"));
  expect(count(all, undefined)).toBe(50);
  expect(count(all, "refused")).toBe(30);
  expect(admission.waiting).toBe(50);
  vi.advanceTimersByTime(2_500);
  expect(count(all, "admitted")).toBe(25);
  vi.advanceTimersByTime(2_600);
  expect(count(all, "admitted")).toBe(50);
  expect(admission.waiting).toBe(0);
});

test("ADM-2: resumes overtake cold handshakes in the queue, and do not starve them", () => {
  const { enter } = node(10);
  const cold = Array.from({ length: 20 }, () => enter("cold"));
  const resumes = Array.from({ length: 18 }, () => enter("resume"));
  vi.advanceTimersByTime(900);
  expect(count(resumes, "admitted")).toBe(9);
  expect(count(cold, "admitted")).toBe(0);
  vi.advanceTimersByTime(100);
  expect(count(cold, "admitted")).toBe(1);
});

test("ADM-2: a handshake that leaves the queue is not admitted, and the next one moves up", () => {
  const { admission, enter } = node(10);
  const [first, second] = [enter("cold"), enter("cold")];
  first.leave();
  vi.advanceTimersByTime(110);
  expect(first.decision).toBeUndefined();
  expect(second.decision).toEqual(admitted);
  expect(admission.waiting).toBe(0);
});

test("ADM-2: a handshake that is overtaken until its deadline is refused with a reconnect time", () => {
  const { enter } = node(10);
  const cold = Array.from({ length: 50 }, () => enter("cold"));
  vi.advanceTimersByTime(1_000);
  for (let i = 0; i < 40; i++) enter("resume");
  vi.advanceTimersByTime(4_100);
  expect(count(cold, undefined)).toBe(0);
  expect(count(cold, "refused")).toBeGreaterThan(20);
  expect(cold.at(-1)?.decision).toMatchObject({ kind: "refused", retryAfterMs: expect.any(Number) as number });
});

test("ADM-3: reconnect times are all different, and spread over the time that admission takes", () => {
  const { enter } = node(10);
  const refused = Array.from({ length: 250 }, () => enter("cold")).slice(50);
  const waits = refused.map(({ decision }) => (decision?.kind === "refused" ? decision.retryAfterMs : 0));
  // 50 are in the queue before them; 200 at nine in ten of 10 a second, and 5 % of jitter.
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(5_000);
  expect(Math.max(...waits)).toBeGreaterThan(25_000);
  expect(Math.max(...waits)).toBeLessThan(30_000);
  expect(new Set(waits).size).toBeGreaterThan(190);
});

test("ADM-3: a full node with hardly any share gives reconnect times at the rate of the fleet", () => {
  const { share, admission } = node(0.1);
  Object.assign(share, { budgetPerSecond: 200, nodes: [1, 2] });
  const waits = Array.from({ length: 90 }, () => admission.takeReconnectMs(anAddress, 5_000));
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(5_000);
  expect(Math.max(...waits)).toBeLessThan(6_500);
});

test("ADM-4: a node without a share admits none, asks for a share, and uses what it gets", () => {
  const { share, admission, enter } = node(0);
  const handshake = enter("cold");
  vi.advanceTimersByTime(1_000);
  expect(handshake.decision).toBeUndefined();
  expect(share.asked).toBeGreaterThan(1);
  share.sharePerSecond = 10;
  admission.onShare();
  vi.advanceTimersByTime(150);
  expect(handshake.decision).toEqual(admitted);
});

test("ADM-7: a draining node admits no more, and refuses the handshakes in its queue at once", () => {
  const { admission, enter } = node(10);
  const waiting = enter("resume");
  admission.close();
  expect(waiting.decision).toEqual({ kind: "closed" });
  expect(enter("resume").decision).toEqual({ kind: "closed" });
});

test("demand counts handshakes admitted, queued and refused within a second", () => {
  const { admission, enter } = node(10);
  for (let i = 0; i < 80; i++) enter("cold");
  expect(admission.demandPerSecond).toBe(80);
  vi.advanceTimersByTime(900);
  expect(admission.demandPerSecond).toBe(80);
  vi.advanceTimersByTime(400);
  expect(admission.demandPerSecond).toBeLessThan(50);
  admission.close();
});

test("RecentCount forgets what is older than a second, step by step", () => {
  const recent = new RecentCount();
  recent.add(10_000);
  recent.add(10_400);
  recent.add(10_450);
  expect(recent.total(10_999)).toBe(3);
  expect(recent.total(11_100)).toBe(2);
  expect(recent.total(60_000)).toBe(0);
});

test("WIN-1: sessions hear of a new window every 5 s at most, and never from a stopping node", () => {
  const session = bareSession("s");
  session.welcome({ packet: "", bytes: 0, options: { compress: false }, conflationKey: undefined });
  const send = vi.spyOn(session.outbox, "send");
  let admissionsPerSecond = 10;
  const sessions = Array.from({ length: 100 }, () => session);
  const policy = new CurrentReconnectPolicy({
    sessions: () => sessions,
    admissionsPerSecond: () => admissionsPerSecond,
    errors: quietErrors,
  });
  policy.update();
  expect(send).toHaveBeenCalledTimes(100);
  expect(policy.current.windowMs).toBe(14_286);
  vi.advanceTimersByTime(4_900);
  admissionsPerSecond = 100;
  policy.update();
  expect(send).toHaveBeenCalledTimes(100);
  vi.advanceTimersByTime(200);
  policy.update();
  expect(send).toHaveBeenCalledTimes(200);
  vi.advanceTimersByTime(10_000);
  policy.stop();
  admissionsPerSecond = 10;
  policy.update();
  expect(send).toHaveBeenCalledTimes(200);
  session.dispose();
});

test.for([
  [0, 1_000, 1_000],
  [7_000, 1_000, 10_000],
  [10_000_000, 1_000, 600_000],
  [1, 1, 1_429],
])("WIN-1: %i sessions and %i admissions a second make a window of %i ms", ([sessions = 0, rate = 0, windowMs]) => {
  expect(reconnectPolicy(sessions, rate)).toEqual({ minDelayMs: 0, windowMs });
});

test("ADM-2: handshakes at a new node wait for the fair share that it will get", () => {
  const { share, enter } = node(1);
  share.fairSharePerSecond = 100;
  const crowd = Array.from({ length: 100 }, () => enter("cold"));
  expect(crowd.filter(({ decision }) => decision?.kind === "refused")).toEqual([]);
});
