/**
 * Sends malformed and hostile input to real processes, through every port and from hostile services, beside an honest client.
 *
 *   npm run fuzz -- [--seconds 60 | --frames N --requests N] [--seed TEXT] [--target NAME[,NAME]] [--only NUMBER] [--keep] [--json]
 *
 *   --frames    runs until so many websocket frames were handled; --requests: until so many requests were answered
 *   --seed      repeats a run's inputs (default: random, printed)
 *   --target    default: all; an unknown name lists them
 *   --only      plays one input of one target and prints it
 *   --keep      adds minimised inputs of violations to loadtest/fuzz/corpus
 *
 * Exit code 0: every verdict passed; 1: a verdict failed or the run could not take place; 78: bad arguments.
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

/** Writes progress to stderr; stdout is for the report alone. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // The started processes end with this one.
    if (ending.signal.aborted) process.exit(1);
    ending.abort();
  });
}
process.exit(await main());
