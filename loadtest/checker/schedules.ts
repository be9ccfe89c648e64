/**
 * Random fault schedules against real processes, judged by the checker.
 *
 *   npm run checker:schedules [-- --schedules 1000] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints what was done, and what the concerned clients were told.
 */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { runSchedules, summaryText } from "../../test/support/schedules/run-schedules.ts";

const { values: flags } = parseArgs({
  options: {
    schedules: { type: "string", default: "40" },
    seed: { type: "string", default: randomBytes(4).toString("hex") },
    only: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const { seed } = flags;
const count = Number(flags.schedules);
if (!Number.isInteger(count) || count < 1) {
  process.stderr.write(`--schedules must be a whole number from 1 on, not ${flags.schedules}\n`);
  process.exit(2);
}

const ending = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.abort());
process.stderr.write(`seed ${seed}\n`);
let done = 0;
const summary = await runSchedules({
  count,
  seed,
  signal: ending.signal,
  ...(flags.only !== undefined && { only: flags.only.split(",").map(Number) }),
  onResult: (result) => {
    const bad = result.failures.length > 0 || result.verdicts.some(({ violations }) => violations.length > 0);
    process.stderr.write(`${++done}: schedule ${result.index} ${bad ? "VIOLATION" : "ok"}\n`);
    if (bad) process.stderr.write(`${result.story()}\n`);
  },
});
process.stdout.write(flags.json ? `${JSON.stringify(summary, undefined, 2)}\n` : summaryText(summary));
process.exitCode = Object.keys(summary.violations).length + summary.failures.length === 0 ? 0 : 1;
