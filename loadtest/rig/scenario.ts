/** How a scenario reads its parameters, runs against its own fleet, and ends. */
import { availableParallelism } from "node:os";
import { readArguments, refuseArguments, toggle } from "../../shared/runtime/command-line.ts";
import { reportText, type ScenarioReport } from "../checks/scenario-report.ts";
import { Fleet } from "./fleet.ts";

/** A parameter from the environment, bounded so that a run always ends. An invalid value ends the program with exit code 78. */
export function parameter(name: string, fallback: number, min: number, max: number): number {
  const value = Number(process.env[name] ?? fallback);
  if (value >= min && value <= max) return value;
  return refuseArguments(`${name} must be a number from ${min} to ${max}, not "${process.env[name]}"`);
}

/** Writes progress to stderr; stdout is for the report alone. */
export function say(text: string): void {
  if (text !== "") process.stderr.write(`${text}\n`);
}

/** Runs a scenario against its own fleet, prints the report, stops the fleet and ends the process: 0 where every verdict passed. */
export async function runScenario(run: (fleet: Fleet) => Promise<ScenarioReport>): Promise<void> {
  const flags = readArguments({ "--json": toggle() });
  const fleet = new Fleet();
  const end = async (exitCode: number): Promise<void> => {
    await fleet.stop();
    process.exit(exitCode);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void end(1));
  try {
    const report = await run(fleet);
    const died = { title: "every server ran to the end", pass: fleet.died.length === 0, value: fleet.died.length };
    const verdicts = [...report.verdicts, died];
    const pass = verdicts.every((verdict) => verdict.pass);
    const whole = { ...report, cores: availableParallelism(), verdicts, pass };
    process.stdout.write(flags["--json"] ? `${JSON.stringify(whole, undefined, 2)}\n` : reportText(whole));
    if (!pass) say(fleet.output());
    await end(pass ? 0 : 1);
  } catch (error) {
    say(fleet.output());
    say((error as Error).stack ?? String(error));
    await end(1);
  }
}
