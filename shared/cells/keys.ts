/** Names of the keys of cells. `root` begins all names of the deployment. */
import { slotTag } from "../channels/keys.ts";

/** Hash: instance → version of its map, and its cells. */
export function processesKey(root: string): string {
  return `${root}:{cells}:processes`;
}

/** The lease of the process that moves slots, and what it has copied (hash: move → keys). */
export function moverKeys(root: string): { lease: string; progress: string } {
  return { lease: `${root}:{cells}:mover`, progress: `${root}:{cells}:progress` };
}

/** Of one cell. String: its name, and that of the first cell. */
export function cellNameKey(root: string): string {
  return `${root}:{cells}:name`;
}

/** Of one cell. Hash: how the slot arrived there (state: 'move attempt state'), by which version of the map, and at which server (replication id). */
export function arrivalKey(root: string, slot: number): string {
  return `${slotTag(root, slot)}:arrival`;
}

/** The slot of a key that moves with it; undefined for other keys. What a cell keeps of a slot for itself carries the slot's tag, and stays. */
export function movedSlot(root: string, key: string): number | undefined {
  if (!key.startsWith(`${root}:{`)) return undefined;
  const [, slot, rest = ""] = /^\{(\d+)\}:(.*)$/s.exec(key.slice(root.length + 1)) ?? [];
  return slot === undefined || /^(queues2:numbers(:.*)?|arrival|fence)$/s.test(rest) ? undefined : Number(slot);
}
