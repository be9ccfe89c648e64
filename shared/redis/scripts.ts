/** Lua scripts: each store declares its own at module level, and every Redis client knows all of them. */
import { readFileSync } from "node:fs";
import type { RedisClient } from "./client.ts";

declare const replyType: unique symbol;

/** A Lua script with a fixed number of keys. Its arguments: the keys, then the values. */
export interface Script<Reply> {
  readonly name: string;
  readonly lua: string;
  readonly keyCount: number;
  /**
   * Its callers batch already: the client sends it at once, and not in the pipeline of its tick. That costs as much as ten commands, and waits for
   * the pipeline under way.
   */
  readonly isBatch: boolean;
  readonly [replyType]?: Reply;
}

const declared: Script<unknown>[] = [];
const fence = read(new URL("fence.part.lua", import.meta.url));

/**
 * Declare scripts before any client opens. One file may be declared with different numbers of keys. The count is part of the
 * declaration because the client groups commands by their first argument, which must be a key.
 */
export function script<Reply>(file: URL, keyCount: number, { isBatch = false } = {}): Script<Reply> {
  const name = `${file.pathname.split("/").slice(-2).join("/")} ${keyCount}`;
  const added: Script<Reply> = { name, lua: read(file), keyCount, isBatch };
  declared.push(added);
  return added;
}

/** A line `-- include NAME` stands for a file beside it: Redis runs scripts that know no others. */
function read(file: URL): string {
  return readFileSync(file, "utf8").replaceAll(/^-- include (\S+)$/gm, (_, name: string) => read(new URL(name, file)));
}

/** The same script, behind the fence of a cell: see fence.part.lua. Its last key names the fence, its last value is the map's version. */
export function fenced<Reply>({ name, lua, keyCount, isBatch }: Script<Reply>): Script<Reply> {
  const [head = "", ...body] = lua.split("\n");
  return { name: `${name} fenced`, lua: [head, fence, ...body].join("\n"), keyCount: keyCount + 1, isBatch };
}

/** @see Script.isBatch */
export function batchScripts(): string[] {
  return declared.filter(({ isBatch }) => isBatch).flatMap((plain) => [plain.name, fenced(plain).name]);
}

/** All at once: a pipeline of the client knows only the scripts that were defined before it began, and copies each of them. */
export function defineScripts(client: RedisClient): void {
  for (const plain of declared) define(client, plain);
}

/** Needed with several cells. */
export function defineFencedScripts(client: RedisClient): void {
  for (const plain of declared) define(client, fenced(plain));
}

function define(client: RedisClient, { name, lua, keyCount }: Script<unknown>): void {
  client.defineCommand(name, { lua, numberOfKeys: keyCount });
}
