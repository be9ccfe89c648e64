/** Programs that run other programs of this folder, in the same process. */
import { pathToFileURL } from "node:url";

/** Runs the program in `file` as if it had been started with `args`: it reads its own flags and prints its own usage. */
export async function runProgram(file: string, args: readonly string[]): Promise<void> {
  process.argv = [process.argv0, file, ...args];
  await import(pathToFileURL(file).href);
}
