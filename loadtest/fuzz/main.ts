/**
 * Sends what no peer should send to real processes, through every door and from behind, while an honest client is served.
 *
 *   npm run fuzz -- [--seconds 60 | --frames N --requests N] [--seed TEXT] [--target NAME[,NAME]] [--only NUMBER] [--keep] [--json]
 *
 * Exit code 0: nothing was found; 1: something was, or the run could not take place; 2: bad arguments.
 */
import { reportText } from "./report.ts";
import { runFuzz } from "./run.ts";
import { type FuzzSettings, readFuzzSettings, usage } from "./settings.ts";

const huntMs = 90_000;
const ending = new AbortController();

async function main(settings: FuzzSettings): Promise<number> {
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

function readSettings(): FuzzSettings | undefined {
  try {
    return readFuzzSettings(process.argv.slice(2));
  } catch (error) {
    say(`${(error as Error).message}\n\n${usage}`);
    return undefined;
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // The processes that were started end with this one.
    if (ending.signal.aborted) process.exit(1);
    ending.abort();
  });
}
const settings = readSettings();
process.exit(settings ? await main(settings) : 2);
