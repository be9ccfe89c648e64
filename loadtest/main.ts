/**
 * Runs one load scenario. Each is a file of scenarios/, starts its own fleet of real processes and stops it.
 *
 *   npm run loadtest -- <scenario> [--json]      npm run loadtest -- <scenario> --help prints its parameters
 *
 * Exit code 0: every verdict passed; 1: a verdict failed or the scenario could not run; 78: a bad argument.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runProgram } from "./rig/program.ts";

const folder = join(import.meta.dirname, "scenarios");
const names = readdirSync(folder).map((file) => basename(file, ".ts"));
const [name = "", ...args] = process.argv.slice(2);

if (names.includes(name)) {
  await runProgram(join(folder, `${name}.ts`), args);
} else if (name === "--help") {
  process.stdout.write(usage());
} else {
  process.stderr.write(`${name === "" ? "name a scenario" : `no such scenario: ${name}`}\n\n${usage()}`);
  process.exitCode = 78;
}

function usage(): string {
  const width = Math.max(...names.map(({ length }) => length));
  const lines = names.map((scenario) => `  ${scenario.padEnd(width)}  ${summary(scenario)}`);
  return `npm run loadtest -- <scenario> [--json]     --help after a scenario prints its parameters\n\n${lines.join("\n")}\n`;
}

/** The first line of the comment at the head of the scenario. */
function summary(scenario: string): string {
  return /^\/\*\*\n \* (.+)/.exec(readFileSync(join(folder, `${scenario}.ts`), "utf8"))?.[1] ?? "";
}
