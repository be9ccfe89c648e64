/** Runs commands of deploy/ as an operator does. */
import { tokens } from "./fleet.ts";
import { spawnProcess } from "./processes.ts";

export interface Ran {
  code: number | null;
  output: string;
}

/** @param script of deploy/, with its arguments */
export async function runCommand(script: string, ...args: string[]): Promise<Ran> {
  const command = spawnProcess(process.execPath, [`deploy/${script}.ts`, ...args], {
    env: { TIDEGATE_API_TOKEN: tokens.service },
  });
  return { code: await command.exited, output: command.output() };
}
