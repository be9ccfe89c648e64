/** Hash: instance → version of its map, and its cells. @param root begins all names of the deployment. */
export function processesKey(root: string): string {
  return `${root}:{cells}:processes`;
}
