import { expect, onTestFinished, test, vi } from "vitest";
import { CurrentReconnectPolicy } from "../../gateway/entrance/current-reconnect-policy.ts";
import { eventFrame } from "../../gateway/outbox/frames.ts";
import { bareSession } from "../support/bare-session.ts";
import { quietErrors } from "../support/logger.ts";

test("WIN-1: a drain that is called off leaves no session without the new window", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const sessions = Array.from({ length: 250 }, (_, i) => bareSession(`s${i}`));
  onTestFinished(() => {
    for (const session of sessions) session.dispose();
  });
  const notified = new Set<string>();
  for (const session of sessions) {
    session.welcome(eventFrame("sync:welcome", {}));
    vi.spyOn(session.outbox, "send").mockImplementation(() => void notified.add(session.id));
  }
  const policy = new CurrentReconnectPolicy({
    sessions: () => sessions,
    admissionsPerSecond: () => 10,
    errors: quietErrors,
  });
  policy.update();
  expect(notified.size).toBe(100);
  policy.stop();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(notified.size).toBe(100);
  policy.resume();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(notified.size).toBe(250);
  policy.stop();
});
