import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { backoffDelayMs } from "../../client/src/calls/backoff.ts";
import { refreshDelayMs, RetrySchedule } from "../../client/src/connection/timing.ts";

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const policy = { minDelayMs: 500, windowMs: 60_000 };

describe("client retry timing", () => {
  test("backoff is random below a bound that doubles up to 30 s", () => {
    expect(backoffDelayMs(0, () => 0)).toBe(0);
    expect([0, 1, 2, 4, 5, 50, 5_000].map((failures) => backoffDelayMs(failures, () => 0.5))).toEqual([
      500, 1_000, 2_000, 8_000, 15_000, 15_000, 15_000,
    ]);
  });

  test("after the loss of a working connection the retry is at a random time in its window", () => {
    fc.assert(
      fc.property(fraction, (random) => {
        const schedule = new RetrySchedule(() => random);
        schedule.connectionEnded(3_600_000);
        expect(schedule.nextDelayMs({ policy })).toBe(500 + random * 60_000);
      }),
    );
  });

  test("only a connection of 10 s or more resets the backoff", () => {
    const schedule = new RetrySchedule(() => 0.5);
    const small = { minDelayMs: 0, windowMs: 0 };
    const breakAfter = (lastedMs: number): number => {
      schedule.connectionEnded(lastedMs);
      return schedule.nextDelayMs({ policy: small });
    };
    expect([9_999, 9_999, 9_999].map(breakAfter)).toEqual([0, 1_000, 2_000]);
    expect(breakAfter(10_000)).toBe(0);
  });

  test("while a fleet is down retries are spread as wide as its reconnect window", () => {
    fc.assert(
      fc.property(fraction, fc.integer({ min: 12, max: 40 }), (random, failures) => {
        const schedule = new RetrySchedule(() => random);
        schedule.nextDelayMs({ policy: { minDelayMs: 0, windowMs: 600_000 } });
        for (let failure = 1; failure < failures; failure++) schedule.nextDelayMs({});
        expect(schedule.nextDelayMs({})).toBe(random * 600_000);
        schedule.nextDelayMs({ policy: { minDelayMs: 0, windowMs: 1_000 } });
        expect(schedule.nextDelayMs({})).toBe(random * 30_000);
      }),
    );
  });

  test("a window longer than the longest timer does not fire at once", () => {
    const schedule = new RetrySchedule(() => 0.99);
    expect(schedule.nextDelayMs({ policy: { minDelayMs: 0, windowMs: 1e12 } })).toBe(2 ** 31 - 1);
  });

  test("a loss right after a reconnect still waits for the window", () => {
    fc.assert(
      fc.property(fraction, fc.nat(20), (random, failures) => {
        const schedule = new RetrySchedule(() => random);
        for (let failure = 0; failure < failures; failure++) schedule.nextDelayMs({});
        expect(schedule.nextDelayMs({ policy })).toBeGreaterThanOrEqual(500 + random * 60_000);
      }),
    );
  });

  test("retryAfterMs is obeyed between 100 ms and the longest timer", () => {
    const schedule = new RetrySchedule(() => 0.5);
    const delays = [4_000, 0, 1e12].map((retryAfterMs) => schedule.nextDelayMs({ retryAfterMs, policy }));
    expect(delays).toEqual([4_000, 100, 2 ** 31 - 1]);
  });

  test("fresh credentials are tried at once, a second time with backoff", () => {
    const schedule = new RetrySchedule(() => 0.5);
    const expired = { credentialsRefused: true };
    expect([expired, expired, expired].map((hints) => schedule.nextDelayMs(hints))).toEqual([0, 1_000, 2_000]);
  });

  test("a token is refreshed before it expires, with time left for a retry", () => {
    fc.assert(
      fc.property(fraction, fc.integer({ min: 2_000, max: 2 ** 40 }), (random, remainingMs) => {
        const time = { remainingMs, lifetimeMs: undefined, isFresh: true };
        const delayMs = refreshDelayMs(time, 0, () => random);
        expect(delayMs).toBeLessThanOrEqual(remainingMs * 0.9);
        expect(delayMs).toBeGreaterThanOrEqual(1_000);
        expect(delayMs).toBeLessThan(2 ** 31);
      }),
    );
  });
});
