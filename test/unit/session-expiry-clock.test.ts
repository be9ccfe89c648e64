/** The end of a session whose node's clock is set meanwhile. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Permissions } from "../../gateway/sessions/permissions.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const hourMs = 3_600_000;

/** @returns how long after its begin the session ended, by the timers; undefined: not within two hours. */
async function endsAfterMs(stepMs: number): Promise<number | undefined> {
  const beganAt = performance.now();
  let endedAt: number | undefined;
  const permissions = new Permissions({
    credentials: {
      user: "ada",
      tenant: undefined,
      channels: [],
      tokenId: "one",
      expiresAt: Date.now() + hourMs,
      claims: {},
    },
    grantedChannels: [],
    storeNow: () => Date.now(),
    onExpired: () => (endedAt ??= performance.now()),
  });
  await vi.advanceTimersByTimeAsync(60_000);
  vi.setSystemTime(Date.now() + stepMs);
  for (let i = 0; i < 120 && endedAt === undefined; i++) await vi.advanceTimersByTimeAsync(60_000);
  permissions.end();
  return endedAt === undefined ? undefined : endedAt - beganAt;
}

test("CON-5: a session ends at expiresAt, also where the clock of the node is set meanwhile", async () => {
  // The tolerance of 10 s, and a minute to notice.
  const within = async (stepMs: number, wantedMs: number): Promise<boolean> => {
    const ms = await endsAfterMs(stepMs);
    return ms !== undefined && ms >= wantedMs && ms <= wantedMs + 70_000;
  };
  expect({
    steady: await within(0, hourMs),
    back: await within(-hourMs / 2, 1.5 * hourMs),
    on: await within(hourMs / 2, hourMs / 2),
  }).toEqual({ steady: true, back: true, on: true });
});
