import { readFileSync } from "node:fs";
import type { RedisClient } from "./connect.ts";

/**
 * A Lua script as a command of the client: the keys, then the arguments. The number of keys is fixed where the command
 * is defined: the client groups commands by their first key, and a number before it would be taken for that.
 */
export type Script<Reply> = (...keysAndArguments: (string | number)[]) => Promise<Reply>;

export function defineScript(client: RedisClient, name: string, file: URL, numberOfKeys: number): void {
  client.defineCommand(name, { lua: readFileSync(file, "utf8"), numberOfKeys });
}
