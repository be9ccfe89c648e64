import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { StalledSessions } from "../../gateway/sessions/stalled-sessions.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import { quietErrors } from "../support/logger.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** The part of a session that is checked. */
function sessionWith(bytes: number, progress: number): { outbox: { bytes: number; progress: number } } {
  return { outbox: { bytes, progress } };
}

test("SLOW-2: a session without progress in six checks in a row is ended once", async () => {
  const stuck = sessionWith(10, 5);
  const idle = sessionWith(0, 5);
  const slow = sessionWith(10, 5);
  const late = sessionWith(10, 5);
  const sessions = new Set([stuck, idle, slow, late]);
  const ended: object[] = [];
  const sweep = new StalledSessions({
    errors: quietErrors,
    sessions: () => [...sessions] as unknown as Session[],
    onStalled: (session) => {
      ended.push(session);
      sessions.delete(session);
    },
    checkMs: 5_000,
    checks: 6,
  });
  await sweep.start();
  for (let look = 1; look <= 6; look++) {
    await vi.advanceTimersByTimeAsync(5_000);
    if (look === 5) slow.outbox.progress++;
  }
  late.outbox.bytes = 0;
  expect(ended).toEqual([]);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(ended).toEqual([stuck]);
  late.outbox.bytes = 10;
  await vi.advanceTimersByTimeAsync(4 * 5_000);
  expect(ended).toEqual([stuck]);
  await vi.advanceTimersByTimeAsync(3 * 5_000);
  expect(ended).toEqual([stuck, slow, late]);
  await sweep.stop();
  expect(vi.getTimerCount()).toBe(0);
});
