/**
 * Random fault schedules against real processes, judged by the checker.
 *
 *   npm run checker -- schedules [--schedules 1000] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and what the affected clients received.
 */
import { randomBytes } from "node:crypto";
import { Type } from "typebox";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, list, optional, text } from "../../shared/runtime/setting-kinds.ts";
import { runSchedules, summaryText } from "./run-schedules.ts";

const flags = readArguments({
  "--schedules": integer({ min: 1, max: 1_000_000, fallback: 40 }),
  "--seed": text({ fallback: randomBytes(4).toString("hex") }),
  "--only": optional(list(Type.String({ pattern: "^\\d+$" }))),
  "--json": toggle(),
});
const { "--seed": seed, "--only": only } = flags;

const ending = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.abort());
process.stderr.write(`seed ${seed}\n`);
let done = 0;
const summary = await runSchedules({
  count: flags["--schedules"],
  seed,
  signal: ending.signal,
  ...(only && { only: only.map(Number) }),
  onResult: (result) => {
    const bad = result.failures.length > 0 || result.verdicts.some(({ violations }) => violations.length > 0);
    process.stderr.write(`${++done}: schedule ${result.index} ${bad ? "VIOLATION" : "ok"}\n`);
    if (bad) process.stderr.write(`${result.trace()}\n`);
  },
});
process.stdout.write(flags["--json"] ? `${JSON.stringify(summary, undefined, 2)}\n` : summaryText(summary));
process.exitCode = Object.keys(summary.violations).length + summary.failures.length === 0 ? 0 : 1;
