/**
 * The simulation's programs: `npm run simulation -- …` simulates a surge (simulate.ts), `… fit` measures a real node (fit.ts),
 * `… compare` compares the simulation with a real fleet (compare.test.ts).
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { runProgram } from "../rig/program.ts";

const [first, ...rest] = process.argv.slice(2);
if (first === "fit") await runProgram(join(import.meta.dirname, "fit.ts"), rest);
else if (first === "compare") process.exitCode = compare(rest);
else await runProgram(join(import.meta.dirname, "simulate.ts"), process.argv.slice(2));

function compare(args: readonly string[]): number {
  const config = join(import.meta.dirname, "vitest.config.ts");
  const root = join(import.meta.dirname, "../..");
  return spawnSync("npx", ["vitest", "run", "--config", config, ...args], { cwd: root, stdio: "inherit" }).status ?? 1;
}
