import { readFileSync } from "node:fs";

/**
 * A Lua script as a command of the client: the keys, then the arguments. The number of keys is fixed where the command
 * is defined: the client groups commands by their first key, and a number before it would be taken for that.
 */
export type Script<Reply> = (...keysAndArguments: (string | number)[]) => Promise<Reply>;

export function scriptSource(file: URL): string {
  return readFileSync(file, "utf8");
}
