/** The command around random schedules: its flags, progress, the summary and the exit code. */
import { randomBytes } from "node:crypto";
import { Type } from "typebox";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, list, optional, text } from "../../shared/runtime/setting-kinds.ts";
import type { SettingTable, SettingValues } from "../../shared/runtime/settings.ts";
import {
  isBroken,
  type ScheduleResult,
  type SeriesOptions,
  type SomeVerdict,
  type Summary,
} from "./schedule-series.ts";

const scheduleFlags = {
  "--schedules": integer({ min: 1, max: 1_000_000, fallback: 40 }),
  "--seed": text({ fallback: randomBytes(4).toString("hex") }),
  "--only": optional(list(Type.String({ pattern: "^\\d+$" }))),
  "--json": toggle(),
};

/**
 * Reads the flags, runs the schedules and prints the summary. Exit code 0: no violation and no failure.
 * @param ownFlags that this command has besides
 */
export async function runScheduleCommand<V extends SomeVerdict, S extends Summary, Own extends SettingTable>(
  run: (options: SeriesOptions<ScheduleResult<V>>, own: SettingValues<Own>) => Promise<S>,
  summaryText: (summary: S) => string,
  ownFlags: Own,
): Promise<void> {
  const flags = readArguments({ ...scheduleFlags, ...ownFlags }) as SettingValues<typeof scheduleFlags> &
    SettingValues<Own>;
  const { "--seed": seed, "--only": only } = flags;
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.abort());
  process.stderr.write(`seed ${seed}\n`);
  let done = 0;
  const options = {
    count: flags["--schedules"],
    seed,
    signal: ending.signal,
    ...(only && { only: only.map(Number) }),
    onResult: (result: ScheduleResult<V>): void => {
      const broken = isBroken(result);
      process.stderr.write(`${++done}: schedule ${result.index} ${broken ? "VIOLATION" : "ok"}\n`);
      if (broken) process.stderr.write(`${result.trace()}\n`);
    },
  };
  const summary = await run(options, flags);
  process.stdout.write(flags["--json"] ? `${JSON.stringify(summary, undefined, 2)}\n` : summaryText(summary));
  process.exitCode = Object.keys(summary.violations).length + summary.failures.length === 0 ? 0 : 1;
}
