/**
 * Sends what no peer should send to real processes, through every door and from behind, while an honest client is served.
 *
 *   npm run fuzz -- [--seconds 60 | --frames N --requests N] [--seed TEXT] [--target NAME[,NAME]] [--only NUMBER] [--keep] [--json]
 *
 *   --frames    until so many websocket frames were handled; --requests: until so many requests were answered
 *   --seed      repeats a run's inputs (default: random, printed)
 *   --target    default: all; a name that is none lists them
 *   --only      plays one input of one target, and prints it
 *   --keep      writes what is found to loadtest/fuzz/corpus, as small as it gets
 *
 * Exit code 0: nothing was found; 1: something was, or the run could not take place; 78: bad arguments.
 */
import { reportText } from "./report.ts";
import { runFuzz } from "./run.ts";
import { readFuzzSettings } from "./settings.ts";

const huntMs = 90_000;
const ending = new AbortController();

const settings = readFuzzSettings();

async function main(): Promise<number> {
  try {
    const report = await runFuzz({ ...settings, signal: ending.signal, say, huntMs, costFactor: 1 });
    process.stdout.write(settings.json ? `${JSON.stringify(report, undefined, 2)}\n` : `\n${reportText(report)}`);
    return report.pass ? 0 : 1;
  } catch (error) {
    say((error as Error).stack ?? String(error));
    return 1;
  }
}

/** Progress; stdout is for the report alone. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // The processes that were started end with this one.
    if (ending.signal.aborted) process.exit(1);
    ending.abort();
  });
}
process.exit(await main());
