import { expect, test, vi } from "vitest";
import { jittered, withDeadline } from "../../shared/runtime/timing.ts";

test("jitter stays within its share on both sides", () => {
  const drawn = vi.spyOn(Math, "random");
  const at = (random: number, share?: number): number => {
    drawn.mockReturnValue(random);
    return jittered(1_000, share);
  };
  expect([at(0), at(0.5), at(1)]).toEqual([750, 1_000, 1_250]);
  expect([at(0, 0.5), at(1, 0.5)]).toEqual([500, 1_500]);
  drawn.mockRestore();
});

test("work that finishes before its deadline leaves no timer behind", async () => {
  vi.useFakeTimers();
  await expect(withDeadline(Promise.resolve("done"), 1_000, () => "late")).resolves.toBe("done");
  await expect(withDeadline(Promise.reject(new Error("failed")), 1_000, () => "late")).rejects.toThrow("failed");
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

test("work that misses its deadline gets the answer that stands in for it", async () => {
  vi.useFakeTimers();
  const answer = withDeadline(new Promise<string>(() => undefined), 1_000, () => "late");
  vi.advanceTimersByTime(1_000);
  await expect(answer).resolves.toBe("late");
  vi.useRealTimers();
});
