import { readFileSync } from "node:fs";

/** A Lua script as a command of the client: the number of keys, the keys, the arguments. */
export type Script<Reply> = (keyCount: number, ...keysAndArguments: (string | number)[]) => Promise<Reply>;

export function scriptSource(file: URL): string {
  return readFileSync(file, "utf8");
}
