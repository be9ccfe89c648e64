/** Notes of attempts, over a Redis that the test answers for. */
import { expect, test } from "vitest";
import type { Attempt } from "../../shared/endpoints/contract.ts";
import { RedisAttemptLog } from "../../shared/endpoints/redis-attempts.ts";
import type { Cells } from "../../shared/redis/cells.ts";

const succeeded: Attempt = { at: 1, changeId: "c", attempt: 1, status: 204, ms: 1 };
const failed = { ...succeeded, status: 500, error: "the endpoint answered 500" };

/** @param run gets the values of each script call, four for each attempt, behind two keys and three numbers */
function logOn(run: (...values: unknown[]) => Promise<unknown>): RedisAttemptLog {
  const fleet = {
    root: "test",
    spansSlots: true,
    run: async (_script: unknown, ...values: unknown[]) => run(...values),
  };
  return new RedisAttemptLog({ fleet } as unknown as Cells);
}

test("EP-6: attempts that are noted together share one call, and each failure has its own reply", async () => {
  const calls: unknown[][] = [];
  const log = logOn(async (...values) => {
    calls.push(values);
    return ["7", "9"];
  });
  const first = log.addSuccess("a", succeeded);
  const one = log.addFailure("b", failed);
  const other = log.addFailure("c", { ...failed, at: 2 });
  const last = Array.from({ length: 61 }, () => log.addSuccess("a", succeeded)).at(-1);
  expect(last).toBe(first);
  // Behind two keys and three bounds.
  expect(calls.map((values) => values.length - 5)).toEqual([64]);
  expect(await one).toMatchObject({ failingSince: 7, lastError: { at: 1, status: 500 } });
  expect(await other).toMatchObject({ failingSince: 9, lastError: { at: 2 } });
  await first;
  // What comes now belongs to another call, which a read sends at once.
  const next = log.addSuccess("a", succeeded);
  expect(next).not.toBe(first);
  await log.forget("a");
  await next;
  expect(calls.length).toBe(3);
});

test("EP-6: where a call fails, all that it should have stored fails", async () => {
  const log = logOn(async () => Promise.reject(new Error("Redis is away")));
  const noted = [log.addSuccess("a", succeeded), log.addFailure("b", failed)];
  for (const each of noted) each.catch(() => undefined);
  await log.stop();
  for (const each of noted) await expect(each).rejects.toThrow("Redis is away");
});
