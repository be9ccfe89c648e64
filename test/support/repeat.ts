/** What a test repeats while it does something else. It ends with the test, also where the test fails. */
import { onTestFailed, onTestFinished, type RunnerTestCase, TestRunner } from "vitest";

export interface Repetition<T> {
  /** Waits for the step under way. Resolves with the results of all steps; rejects where a step failed. */
  stop(): Promise<T[]>;
}

/**
 * Begins at once, one step after the other, until stopped or until a step fails. Call it in a test.
 * @param step is given the results so far.
 */
export function repeat<T>(step: (results: readonly T[]) => Promise<T>): Repetition<T> {
  let going = true;
  let stopped = false;
  let failure: { cause: unknown; cameFirst: boolean } | undefined;
  const test = TestRunner.getCurrentTest<RunnerTestCase>();
  const results: T[] = [];
  const ended = (async () => {
    while (going) results.push(await step(results));
  })().catch((cause: unknown) => (failure = { cause, cameFirst: test.result?.state !== "fail" }));
  onTestFinished(async () => {
    going = false;
    await ended;
  });
  onTestFailed(() => {
    // It may be why the test waited in vain. After the test's own failure it only follows from the end of its programs.
    if (failure?.cameFirst && !stopped) throw new Error("what the test repeated has failed", { cause: failure.cause });
  });
  return {
    stop: async () => {
      going = false;
      stopped = true;
      await ended;
      if (failure) throw failure.cause;
      return results;
    },
  };
}
