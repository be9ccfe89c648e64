/** Lua scripts: each store declares its own at module level, and every Redis client knows all of them. */
import { readFileSync } from "node:fs";
import type { RedisClient } from "./client.ts";

declare const replyType: unique symbol;

/** A Lua script with a fixed number of keys. Its arguments: the keys, then the values. */
export interface Script<Reply> {
  readonly name: string;
  readonly lua: string;
  readonly keyCount: number;
  readonly [replyType]?: Reply;
}

const declared: Script<unknown>[] = [];

/**
 * Declare scripts before any client opens. One file may be declared with different numbers of keys. The count is part of the
 * declaration because the client groups commands by their first argument, which must be a key.
 */
export function script<Reply>(file: URL, keyCount: number): Script<Reply> {
  const name = `${file.pathname.split("/").slice(-2).join("/")} ${keyCount}`;
  const added: Script<Reply> = { name, lua: readFileSync(file, "utf8"), keyCount };
  declared.push(added);
  return added;
}

/** All at once: a pipeline of the client knows only the scripts that were defined before it began. */
export function defineScripts(client: RedisClient): void {
  for (const { name, lua, keyCount } of declared) client.defineCommand(name, { lua, numberOfKeys: keyCount });
}
