/** Token refreshes of a client whose clock is wrong: played for hours with fake timers. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Credentials } from "../../client/src/connection/credentials.ts";
import { TokenRefresh } from "../../client/src/connection/token-refresh.ts";
import type { GatewayConnection } from "../../client/src/connection/connection.ts";

const minuteMs = 60_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

function jwt(claims: object): string {
  return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.signature`;
}

/** Minutes at which a client asks for a token, in two hours, while the gateway accepts each token. */
async function refreshes(clock: { aheadMs: number; lifetimeMs: number; tells: boolean }): Promise<number[]> {
  const startMs = Date.now();
  const serverNowMs = (): number => Date.now() - clock.aheadMs;
  const askedAtMin: number[] = [];
  const credentials = new Credentials(() => {
    askedAtMin.push((Date.now() - startMs) / minuteMs);
    const iat = serverNowMs() / 1_000;
    return clock.tells ? jwt({ iat, exp: iat + clock.lifetimeMs / 1_000 }) : "opaque";
  });
  const expiresAt = (): number => serverNowMs() + clock.lifetimeMs;
  const connection = {
    request: (_event: string, _args: unknown, answered: (ack: object) => void) =>
      answered({ ok: true, expiresAt: expiresAt(), resumeToken: "resume" }),
  } as unknown as GatewayConnection;
  await credentials.forHandshake();
  askedAtMin.length = 0;
  const refresh = new TokenRefresh(
    credentials,
    () => 0.5,
    () => undefined,
  );
  refresh.start(connection, expiresAt());
  await vi.advanceTimersByTimeAsync(120 * minuteMs);
  refresh.stop();
  expect(vi.getTimerCount()).toBe(0);
  return askedAtMin;
}

test.each([
  ["has passed the expiry", 180],
  ["is just before the expiry", 59.999],
])("SDK-16: with a clock that %s, refreshes become rare and stay in time", async (_, aheadMin) => {
  const clock = { aheadMs: aheadMin * minuteMs, lifetimeMs: 60 * minuteMs };
  const told = await refreshes({ ...clock, tells: true });
  expect(told.length).toBeLessThanOrEqual(10);
  for (const [index, atMin] of [...told, 120].entries()) expect(atMin - (told[index - 1] ?? 0)).toBeLessThan(60);
});

test("SDK-16: so they do where the token tells no lifetime", async () => {
  const untold = await refreshes({ aheadMs: 180 * minuteMs, lifetimeMs: 60 * minuteMs, tells: false });
  expect(untold.length).toBeGreaterThan(1);
  expect(untold.length).toBeLessThanOrEqual(10);
});

test("SDK-16: with a clock that is behind, the token's own lifetime counts", async () => {
  const told = await refreshes({ aheadMs: -180 * minuteMs, lifetimeMs: 60 * minuteMs, tells: true });
  expect(told.map(Math.round)).toEqual([48, 96]);
});

test("SDK-16: with a right clock the remaining time counts", async () => {
  const told = await refreshes({ aheadMs: 0, lifetimeMs: 60 * minuteMs, tells: true });
  expect(told.map(Math.round)).toEqual([48, 96]);
});
