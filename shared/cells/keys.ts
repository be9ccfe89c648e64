/** Names of the keys of cells. `root` begins all names of the deployment. */

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

/** Of one cell. Hash: slot → how it arrived there. */
export function arrivalsKey(root: string): string {
  return `${root}:{cells}:arrivals`;
}
