/**
 * The fence of a cell: a version below which it refuses calls of slots. A process with an older map may send a slot's calls to the
 * cell that owned the slot before. Only deployments of several cells have one; a cell that is a cluster has one for each slot.
 */
import type { Argument } from "./client.ts";
import { fenced, type Script, script } from "./scripts.ts";

export const raiseFenceScript = script<string>(new URL("raise-fence.lua", import.meta.url), 1);
const runCommandScript = script<unknown>(new URL("run-command.lua", import.meta.url), 1);

const byName = new Map<string, Script<unknown>>();

/** Of a cell whose scripts may use keys of several slots. */
export function fenceKey(root: string): string {
  return `${root}:{cells}:fence`;
}

/** In a cluster each slot has a fence. @param key of the slot */
export function slotFenceKey(key: string): string {
  return `${key.slice(0, key.indexOf("}") + 1)}:fence`;
}

export interface FencedCall<Reply> {
  script: Script<Reply>;
  keysAndArguments: Argument[];
  toReply: (reply: Reply) => Reply;
}

/** The call of a script, or of a command by its name, behind the fence. @param fence its version is that of the caller's map */
export function fencedCall<Reply>(
  fence: { key: string; version: number },
  command: string | Script<Reply>,
  keysAndArguments: readonly Argument[],
): FencedCall<Reply> {
  if (typeof command !== "string") {
    const keys = keysAndArguments.slice(0, command.keyCount);
    const values = keysAndArguments.slice(command.keyCount);
    return {
      script: twinOf(command),
      keysAndArguments: [...keys, fence.key, ...values, fence.version],
      toReply: (reply) => reply,
    };
  }
  const [key = "", ...values] = keysAndArguments;
  return {
    script: twinOf(runCommandScript) as Script<Reply>,
    keysAndArguments: [key, fence.key, command, ...values, fence.version],
    // The client makes an object of this reply only where it knows the command.
    toReply: command === "hgetall" ? (reply) => fromPairs(reply as string[]) as Reply : (reply) => reply,
  };
}

function twinOf<Reply>(plain: Script<Reply>): Script<Reply> {
  const known = byName.get(plain.name) as Script<Reply> | undefined;
  if (known) return known;
  const twin = fenced(plain);
  byName.set(plain.name, twin);
  return twin;
}

function fromPairs(pairs: readonly string[]): Record<string, string> {
  const record: Record<string, string> = Object.create(null) as Record<string, string>;
  for (let at = 0; at < pairs.length; at += 2) record[pairs[at] ?? ""] = pairs[at + 1] ?? "";
  return record;
}

/** The version that the fence demands; 0: the cell has no fence, e.g. because it lost its data. Undefined for other errors. */
export function demandedVersion(error: unknown): number | undefined {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return undefined;
  const [, version] = /^OUTDATED (\d+|no fence)/.exec(cause.message) ?? [];
  if (version === undefined) return undefined;
  return version === "no fence" ? 0 : Number(version);
}
