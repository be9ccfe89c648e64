/**
 * Runs every known attack against a deployment and measures the effect on honest clients.
 *
 *   npm run attack -- [--seconds 30] [--connections 4 [--exactly]] [--quiet-seconds 10] [--only NAME,…] [--json] [--list]
 *     [--from ADDRESS]   local address of the attackers; default 127.0.0.66 for a gateway on a loopback address
 *     [--gateway URL --admin URL --api URL --api-token TOKEN --jwt-secret SECRET [--service-host HOST] [--service-port PORT]]
 *                        a running deployment; without these flags the command starts its own
 *
 * --exactly opens no more than --connections; without it some attacks open many for each (the table has the number).
 * --only takes names of attacks and families; --list shows them. Each attack ends by itself.
 * Exit code 0: every mark was met; 1: a mark was missed or the run failed; 78: a bad flag.
 */
import { availableParallelism } from "node:os";
import { say } from "../rig/scenario.ts";
import { heading, listText, reportText, resultLine } from "./report.ts";
import { type AttackResult, missedMarks } from "./result.ts";
import { runAttacks, stopDeployment } from "./run.ts";
import { readAttackSettings } from "./settings.ts";

async function end(exitCode: number): Promise<void> {
  await stopDeployment();
  process.exit(exitCode);
}

const settings = readAttackSettings();
if (settings["--list"]) {
  process.stdout.write(listText(settings.attacks));
  process.exit(0);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void end(1));
const results: AttackResult[] = [];
let brokenOff = false;
try {
  say(heading);
  await runAttacks(settings, (result) => {
    results.push(result);
    say(resultLine(result));
  });
} catch (error) {
  say(`the run failed: ${(error as Error).message}`);
  brokenOff = true;
}
const pass = !brokenOff && results.every((result) => missedMarks(result).length === 0);
if (settings["--json"]) {
  const judged = results.map((result) => ({ ...result, missed: missedMarks(result) }));
  const report = { cores: availableParallelism(), pass, brokenOff, results: judged };
  process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
} else process.stdout.write(reportText(results));
await end(pass ? 0 : 1);
